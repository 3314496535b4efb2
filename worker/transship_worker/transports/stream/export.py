"""Reading what an engine exports (``GET /images/{name}/get``), as it comes.

Three layouts are known. Docker Engine up to 24 writes a folder and a ``layer.tar`` for each layer,
Docker Engine from 25 on an OCI image layout with ``blobs/sha256/HEX``, and Podman ``DIFFID.tar`` at
the top. In all of them, everything is found by its content: its digest is the layer's diff id, the
config's or the manifest's. So the lists within the export, which come after what they list, are
not needed.
"""

from __future__ import annotations

import tarfile
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Final, cast

from transship.errors import EngineUnavailable
from transship_worker.oci.digests import is_digest

#: What is read at once. Unit: bytes.
_BLOCK: Final = 1024 * 1024
#: The largest config that is read. Unit: bytes.
SMALL_MOST: Final = 8 * 1024 * 1024
#: Members of one export: an image has 127 layers at most, an index some thousand manifests.
MEMBERS_MOST: Final = 65_536
#: A name or an extended header of a member. Unit: bytes.
HEADER_MOST: Final = 64 * 1024
_EXTENDED: Final = frozenset(
    {
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
    }
)
_BLOBS: Final = "blobs/"
_SHA256: Final = "blobs/sha256/"


class _Header(tarfile.TarInfo):
    """A header that makes the library read no more than a bounded name."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo | None:
        if self.type in _EXTENDED and self.size > HEADER_MOST:
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        found: tarfile.TarInfo | None = super()._proc_member(tar)  # type: ignore[misc]
        return found


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

    @property
    def digest(self) -> str | None:
        """The digest that names a blob of an OCI image layout; ``None``: another file."""
        algorithm, _, value = self.name.removeprefix(_BLOBS).partition("/")
        digest = f"{algorithm}:{value}"
        return digest if self.name.startswith(_BLOBS) and is_digest(digest) else None

    def is_layer(self, diff_ids: Collection[str]) -> bool:
        """Whether it is one of the image's layers, as far as its name tells."""
        if self.name.startswith(_SHA256):
            return f"sha256:{self.name.removeprefix(_SHA256)}" in diff_ids
        if "/" not in self.name and self.name.endswith(".tar"):
            return f"sha256:{self.name.removesuffix('.tar')}" in diff_ids
        return self.name.endswith("/layer.tar")


def members(pieces: Iterable[bytes]) -> Iterator[Member]:
    """The files of an export, in its order. Links are left out: they lead to files in it.

    Raises:
        EngineUnavailable: the export breaks off, or is none.
    """
    readable = cast("IO[bytes]", _Readable(pieces))
    try:
        with tarfile.open(fileobj=readable, mode="r|", bufsize=_BLOCK, tarinfo=_Header) as tar:
            for count, info in enumerate(tar):
                if count >= MEMBERS_MOST or info.issparse():
                    what = "holes" if info.issparse() else f"more than {MEMBERS_MOST} members"
                    raise tarfile.ReadError(f"it has {what}")
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
