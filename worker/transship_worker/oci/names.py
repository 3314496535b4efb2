"""Names that may be asked for: nothing else gets into a URL.

Sources: distribution's grammar for repositories; distribution-spec 1.1, "Pulling manifests".
"""

from __future__ import annotations

import re
from typing import Final

from transship.model.references import NAME_LENGTH

#: No segment is ``.`` or ``..``.
_SEGMENT: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*", re.ASCII)
_BASE_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)*/?", re.ASCII)
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", re.ASCII)


def is_repository(name: str) -> bool:
    """Whether a repository may be called so."""
    return len(name) <= NAME_LENGTH and _REPOSITORY.fullmatch(name) is not None


def is_tag(name: str) -> bool:
    """Whether a tag may be called so."""
    return _TAG.fullmatch(name) is not None


def is_base_path(path: str) -> bool:
    """Whether a registry's API may lie below this path of its host, in ``/v2/`` there."""
    # /v2 is the API itself, which requests add.
    return not path.rstrip("/").endswith("/v2") and _BASE_PATH.fullmatch(path) is not None
