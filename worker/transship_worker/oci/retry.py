"""When a request that was refused for its rate is sent again, by the same attempt.

A wait of up to ``IN_PLACE_S`` is waited for where the request is made, so that no work of the
attempt is lost. A longer one ends the attempt.
"""

from __future__ import annotations

from typing import Final

from transship.errors import PushError, RateLimited, RegistryPaused, RegistryUnavailable

#: The longest wait in place. Unit: s.
IN_PLACE_S: Final = 30.0
#: The shortest, and the first where none is named, which is then doubled. Unit: s.
LEAST_S, FIRST_S = 0.5, 1.0
#: How often a server that has no rate limiter here may refuse one request: a token server, or
#: storage that a registry leads to.
TRIES: Final = 8


def in_place(error: PushError) -> bool:
    """Whether an error only asks to send the request again after a short wait."""
    named_s = error.retry_after_s
    if isinstance(error, RateLimited):
        return named_s is None or named_s <= IN_PLACE_S
    return isinstance(error, RegistryUnavailable) and named_s is not None and named_s <= IN_PLACE_S


def wait_s(error: PushError, tries: int) -> float:
    """How long to wait before the next try; ``tries`` were refused. Unit: s."""
    named_s = error.retry_after_s
    if named_s is None:
        return min(FIRST_S * 2.0 ** min(tries - 1, 10), IN_PLACE_S)
    return max(named_s, LEAST_S)


def bounded_wait_s(error: PushError | None, tries: int) -> float | None:
    """The wait for a server without a rate limiter; ``None``: the error counts. Unit: s."""
    if error is None or tries > TRIES or not in_place(error):
        return None
    return wait_s(error, tries)


def paused(error: PushError) -> PushError:
    """The error; one that asks for fewer requests sends the job back to the queue for a while."""
    if not isinstance(error, RateLimited):
        return error
    after_s = IN_PLACE_S if error.retry_after_s is None else error.retry_after_s
    found = RegistryPaused(error.message, retry_after_s=after_s)
    found.__cause__ = error.__cause__
    return found
