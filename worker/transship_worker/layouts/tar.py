"""Where the members of a tar archive lie: found once, read by offset, nothing unpacked.

Source: POSIX.1-2017, pax ("pax Interchange Format", "ustar Interchange Format") and GNU tar's
manual ("Basic Tar Format"). Blocks are decoded by the standard library; walking from one to the
next is done here, so that no header makes this read much, seek far or loop.
"""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from transship.errors import AnswerMalformed, ManifestUnsupported, NotAllowed
from transship_worker.layouts.byte_source import ByteSource

BLOCK: Final = 512
#: Members of one archive: some hundred images of 127 layers have fewer. Unit: members.
MEMBERS_LIMIT: Final = 65_536
#: A name or an extended header. Unit: bytes.
HEADER_LIMIT: Final = 64 * 1024
#: Links from link to link.
HOPS_LIMIT: Final = 8

_COMPRESSED: Final = {
    b"\x1f\x8b": "gunzip",
    b"\x28\xb5\x2f\xfd": "zstd -d",
    b"\xfd7zXZ\x00": "unxz",
    b"BZh": "bunzip2",
}
_REGULAR: Final = frozenset({tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE})
_LINKS: Final = frozenset({tarfile.SYMTYPE, tarfile.LNKTYPE})


@dataclass(frozen=True, slots=True)
class Member:
    """Where the bytes of one file lie."""

    #: Unit: bytes.
    start: int
    #: Unit: bytes.
    size: int


@dataclass(slots=True)
class Tar:
    """The files of an archive, and its links to them."""

    what: str
    files: dict[str, Member] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def find(self, name: str) -> Member | None:
        """The file of this name, links followed inside of the archive; ``None``: there is none.

        Raises:
            NotAllowed: links go round.
        """
        name = posixpath.normpath(name)
        for _ in range(HOPS_LIMIT):
            if name not in self.links:
                return self.files.get(name)
            name = self.links[name]
        raise NotAllowed(f"{self.what}: {name[:80]!a} is a link that leads to no file")

    def add(self, info: tarfile.TarInfo, name: str, link: str, start: int) -> None:
        """Note one member.

        Raises:
            NotAllowed: it lies or leads outside, is there twice, or is no file.
        """
        bare = self._inside(name, name)
        if info.type == tarfile.DIRTYPE:
            return
        if bare in self.files or bare in self.links:
            raise NotAllowed(f"{self.what} has two members called {bare[:80]!a}")
        if len(self.files) + len(self.links) >= MEMBERS_LIMIT:
            raise NotAllowed(f"{self.what} has more than {MEMBERS_LIMIT} members")
        if info.type in _LINKS:
            # A hard link is meant from the top, a symbolic one from where it stands.
            base = posixpath.dirname(bare) if info.type == tarfile.SYMTYPE else ""
            if link.startswith("/"):
                raise NotAllowed(f"{self.what}: the link {bare[:80]!a} leads out of the archive")
            self.links[bare] = self._inside(posixpath.join(base, link), bare)
        elif info.type in _REGULAR:
            self.files[bare] = Member(start, info.size)
        else:
            raise NotAllowed(
                f"{self.what}: {bare[:80]!a} is neither a file nor a folder nor a link"
            )

    def _inside(self, path: str, name: str) -> str:
        found = posixpath.normpath(path)
        if found.startswith(("/", "../")) or found == "..":
            raise NotAllowed(f"{self.what}: {name[:80]!a} lies or leads out of the archive")
        return found


def read_tar(source: ByteSource, what: str) -> Tar:
    """Walk the headers of an open archive; ``what`` names it in messages.

    Raises:
        ManifestUnsupported: it is compressed otherwise than with gzip, or twice.
        AnswerMalformed: it is no tar archive, or a damaged one.
        NotAllowed: a member that no image needs.
    """
    _check_plain(source.read_at(8, 0), what)
    found, extra, at = Tar(what), dict[str, str](), 0
    while len(block := source.read_at(BLOCK, at)) == BLOCK and block.strip(b"\0"):
        info = _header(block, what, at)
        size = int(extra.pop("size", info.size))
        at += BLOCK
        if size < 0 or not source.reaches(at + size):
            raise AnswerMalformed(f"{what} ends before its member {info.name[:80]!a} does")
        if info.type in _EXTRAS:
            extra |= _EXTRAS[info.type](_body(source, at, size, what), what)
        else:
            info.size = size
            name = extra.pop("path", info.name)
            found.add(info, name, extra.pop("linkpath", info.linkname), at)
            extra.clear()
        at += -(-size // BLOCK) * BLOCK
    if not found.files:
        raise AnswerMalformed(f"{what} is no tar archive, or an empty one")
    return found


def _check_plain(first: bytes, what: str) -> None:
    for magic, command in _COMPRESSED.items():
        if first.startswith(magic):
            raise ManifestUnsupported(
                f"{what} is compressed, so that nothing in it can be found without unpacking all "
                f"of it; unpack it once with {command}"
            )


def _header(block: bytes, what: str, at: int) -> tarfile.TarInfo:
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        # What the library says of it is for programmers.
        why = "is no tar archive" if at == 0 else f"is damaged at byte {at}"
        raise AnswerMalformed(f"{what} {why}") from None
    if info.type == tarfile.GNUTYPE_SPARSE:
        raise NotAllowed(f"{what}: {info.name[:80]!a} is stored with holes; write it without")
    return info


def _body(source: ByteSource, at: int, size: int, what: str) -> bytes:
    if size > HEADER_LIMIT:
        raise NotAllowed(f"{what} has a header of {size} bytes; at most {HEADER_LIMIT} are read")
    return source.read_at(size, at)


def _pax(body: bytes, what: str) -> dict[str, str]:
    """The records of an extended header that say where a member is."""
    found = {}
    while body:
        length, _, _ = body.partition(b" ")
        size = int(length) if length.isdigit() and len(length) < 8 else 0
        key, equals, value = body[len(length) + 1 : size - 1].partition(b"=")
        if size > len(body) or not equals or body[size - 1 : size] != b"\n":
            raise AnswerMalformed(f"{what} has a damaged extended header")
        body = body[size:]
        if key.startswith(b"GNU.sparse."):
            raise NotAllowed(f"{what} has a member that is stored with holes; write it without")
        if key == b"size" and not (value.isdigit() and len(value) < 20):
            raise AnswerMalformed(f"{what} has a member without a size")
        if key in {b"path", b"linkpath", b"size"}:
            found[key.decode()] = value.decode("utf-8", "surrogateescape")
    return found


def _global(body: bytes, what: str) -> dict[str, str]:
    if _pax(body, what):
        raise NotAllowed(f"{what} has one name or size for all of its members")
    return {}


def _long(key: str, body: bytes, what: str) -> dict[str, str]:  # noqa: ARG001 - as the others
    return {key: body.rstrip(b"\0").decode("utf-8", "surrogateescape")}


#: Headers that say something of the next member.
_EXTRAS: Final[dict[bytes, Callable[[bytes, str], dict[str, str]]]] = {
    tarfile.XHDTYPE: _pax,
    tarfile.SOLARIS_XHDTYPE: _pax,
    tarfile.XGLTYPE: _global,
    tarfile.GNUTYPE_LONGNAME: partial(_long, "path"),
    tarfile.GNUTYPE_LONGLINK: partial(_long, "linkpath"),
}
