"""Reading what a Docker Engine exports (``GET /images/{name}/get``), as it comes.

Two layouts are known: the older one, with a folder and a ``layer.tar`` for each layer, and the
OCI image layout of engines from 25 on, with ``blobs/sha256/HEX``. In both, everything is found
by its content: a layer's digest is its diff id, the config's is the image's id. So the lists
within the export, which come after what they list, are not needed.
"""

from __future__ import annotations

import tarfile
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Final, cast

from transship.errors import EngineUnavailable

#: What is read at once. Unit: bytes.
_BLOCK: Final = 1024 * 1024
#: Small files that are kept, to find the config among them: how large, how many. Unit: bytes.
SMALL_MOST: Final = 8 * 1024 * 1024
_BLOBS: Final = "blobs/sha256/"


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file of an export; its content can be read until the next one is asked for."""

    name: str
    size: int
    _content: IO[bytes]

    def read(self, size: int = -1) -> bytes:
        """The next bytes, at most so many; none at the end.

        Raises:
            EngineUnavailable: the export breaks off.
        """
        try:
            return self._content.read(size)
        except (tarfile.TarError, EOFError) as error:
            raise _broken(error) from None

    def is_layer(self, diff_ids: Collection[str]) -> bool:
        """Whether it is one of the image's layers, as far as its name tells."""
        if self.name.startswith(_BLOBS):
            return f"sha256:{self.name.removeprefix(_BLOBS)}" in diff_ids
        return self.name.endswith("/layer.tar")


def members(pieces: Iterable[bytes]) -> Iterator[Member]:
    """The files of an export, in its order. Links are left out: they lead to files in it.

    Raises:
        EngineUnavailable: the export breaks off, or is none.
    """
    readable = cast("IO[bytes]", _Readable(pieces))
    try:
        with tarfile.open(fileobj=readable, mode="r|", bufsize=_BLOCK) as tar:
            for info in tar:
                # Else all members of a stream would be remembered.
                tar.members = []  # type: ignore[attr-defined]
                content = tar.extractfile(info) if info.isreg() else None
                if content is not None:
                    yield Member(info.name.removeprefix("./"), info.size, content)
    except (tarfile.TarError, EOFError) as error:
        raise _broken(error) from None


def _broken(error: Exception) -> EngineUnavailable:
    return EngineUnavailable(f"the engine's export cannot be read: {error}")


class _Readable:
    """What ``tarfile`` needs of a file, over pieces as they come."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._left = memoryview(b"")

    def read(self, size: int = -1, /) -> bytes:
        """At most so many bytes; none at the end."""
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._left = memoryview(piece)
        taken, self._left = self._left[:size], self._left[size:]
        return bytes(taken)
