"""Digests: checked where they come in, computed here and never believed.

Sources: OCI image-spec, descriptor.md ("Digests"); sha256 and sha512 are its registered
algorithms that registries use, sha384 is in Go's digest package.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import TYPE_CHECKING, Final

from transship.errors import AnswerMalformed, DigestMismatch

if TYPE_CHECKING:
    from hashlib import _Hash

#: Hexadecimal digits by algorithm.
_LENGTHS: Final = {"sha256": 64, "sha384": 96, "sha512": 128}
_HEX = re.compile(r"[0-9a-f]+", re.ASCII)


def is_digest(text: str) -> bool:
    """Whether this is a digest that can be verified here."""
    algorithm, _, value = text.partition(":")
    return len(value) == _LENGTHS.get(algorithm) and _HEX.fullmatch(value) is not None


def checked(text: object) -> str:
    """The digest, if it is one that can be verified.

    Raises:
        AnswerMalformed: it is not.
    """
    if not isinstance(text, str) or not is_digest(text):
        raise AnswerMalformed(
            f"{str(text)[:80]!r} is not a digest that can be verified; "
            f"known are {', '.join(_LENGTHS)} in lower-case hexadecimal digits"
        )
    return text


def algorithm_of(digest: str) -> str:
    """``sha256`` and the like, of a checked digest."""
    return digest.partition(":")[0]


def new_hash(digest: str) -> _Hash:
    """An empty hash of the algorithm of a checked digest, to be fed while bytes pass by."""
    return hashlib.new(algorithm_of(digest))


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    """The digest of these bytes."""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def verify(found: _Hash, digest: str, what: str) -> None:
    """Return if what was hashed has this digest.

    Raises:
        DigestMismatch: naming ``what`` and both digests.
    """
    actual = f"{algorithm_of(digest)}:{found.hexdigest()}"
    if not hmac.compare_digest(actual, digest):
        raise DigestMismatch(f"{what}: what came is {actual}, not {digest}")
