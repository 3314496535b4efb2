"""Cloud SDKs: imported when they are used, and named with their extra when they are missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from transship.errors import PrepareFailed
from transship.installation import extra_hint


@contextmanager
def needed(library: str, *, flavor: str, extra: str) -> Iterator[None]:
    """Around the import of an SDK.

    Raises:
        PrepareFailed: it is not installed here; says what to install.
    """
    try:
        yield
    except ImportError as error:
        detail = "" if isinstance(error, ModuleNotFoundError) else f": {error}"
        raise PrepareFailed(
            f"flavor {flavor!r} needs the extra {extra!r} on the worker "
            f"(cannot import {library}{detail}); hint: {extra_hint(extra)}"
        ) from error


def installed(module: str) -> bool:
    """Whether a module could be imported; it is not."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False
