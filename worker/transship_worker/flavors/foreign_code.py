"""A flavor's own code, which may be anybody's: whatever it raises becomes a typed error."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from transship.errors import PushError
from transship_config.errors import TransshipError

logger = logging.getLogger("transship.flavor")

#: The longest message that a custom flavor's exception may give a job. Unit: characters.
LONGEST_MESSAGE: Final = 2_000


@contextmanager
def typed_errors(
    whose: str, redacted: Callable[[str], str], otherwise: type[PushError], about: str
) -> Iterator[None]:
    """Around the code of a component.

    Args:
        whose: flavor and component, for the log.
        redacted: removes the component's secrets from a text.
        otherwise: what an exception becomes that is no typed error.
        about: the beginning of its message.

    Raises:
        TransshipError: that was raised as such, without the component's secrets.
        PushError: ``otherwise``, with ``about`` and the message of what was raised.
    """
    try:
        yield
    except PushError as error:
        shown = redacted(error.message)
        if shown == error.message:
            raise
        raise type(error)(shown, retry_after_s=error.retry_after_s) from None
    except TransshipError:
        raise
    except Exception as error:  # noqa: BLE001
        # A custom flavor's code may raise anything, and its message belongs to the job.
        logger.debug("%s raised: %s", whose, redacted(traceback.format_exc()))
        message = " ".join(str(error).split()) or type(error).__name__
        # Not from the error, which holds what is redacted here.
        raise otherwise(redacted(f"{about}{message}")[:LONGEST_MESSAGE]) from None
