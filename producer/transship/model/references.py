"""Image references and registry URIs, parsed once.

The grammar is that of the distribution project's ``reference`` package, and the
normalisation is the ``docker`` command's: a name without a host is on Docker Hub, and a
one-part name there lies under ``library/``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from transship.errors import InvalidReference

#: Docker Hub's name in references; its other host names are spelled so.
DOCKER_HUB: Final = "docker.io"
_DOCKER_HUB_ALIASES: Final = frozenset(
    {"docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"}
)

#: Characters of host, port and repository together. The distribution-spec (1.1, "Pulling
#: manifests") says that many clients allow no more; the Docker Engine is one of them.
NAME_LENGTH: Final = 255

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:.]+\])", re.ASCII)
_SEGMENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*", re.ASCII)
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}", re.ASCII)
_DIGEST = re.compile(
    r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}", re.ASCII
)
_HEX_LENGTH: Final = {"sha256": 64, "sha384": 96, "sha512": 128}
_IMAGE_ID = re.compile(r"[a-f0-9]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ImageReference:
    """One image name, normalised: ``host[:port]/repository[:tag][@digest]``.

    ``str()`` gives the canonical text, and parsing that text gives an equal value.
    """

    host: str
    port: int | None
    repository: str
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> ImageReference:
        """Read an image reference as the ``docker`` command would.

        Raises:
            InvalidReference: naming the part that is wrong and what it may be.
        """
        if not text or text != text.strip() or not text.isprintable():
            raise InvalidReference(
                f"{text!r} is not an image reference; write host/repository:tag, "
                "with no white space"
            )
        if "://" in text:
            raise InvalidReference(
                f"{text!r} is a URL; write the image without {text.partition('://')[0]}://"
            )
        rest, at, digest = text.partition("@")
        if at:
            _check_digest(text, digest)
        slash = rest.rfind("/")
        colon = rest.rfind(":")
        tag: str | None = None
        if colon > slash:
            rest, tag = rest[:colon], rest[colon + 1 :]
            if not _TAG.fullmatch(tag):
                raise InvalidReference(
                    f"{text!r} has a bad tag {tag!r}; a tag is up to 128 letters, digits, "
                    "'_', '.' and '-', and starts with none of the last two"
                )
        if _IMAGE_ID.fullmatch(rest):
            raise InvalidReference(
                f"{text!r} is an image id, not a name; write host/repository:tag"
            )
        host, port, repository = _split_name(text, rest)
        if not repository:
            raise InvalidReference(f"{text!r} has no repository; write {rest}/repository:tag")
        if host == DOCKER_HUB and "/" not in repository:
            repository = f"library/{repository}"
        _check_segments(text, repository)
        reference = cls(host, port, repository, tag, digest or None)
        if len(reference.name) > NAME_LENGTH:
            raise InvalidReference(
                f"{text[:60]!r}… is {len(reference.name)} characters long without its tag; "
                f"at most {NAME_LENGTH} are allowed"
            )
        return reference

    @property
    def registry(self) -> str:
        """``host`` or ``host:port``."""
        return self.host if self.port is None else f"{self.host}:{self.port}"

    @property
    def name(self) -> str:
        """``host[:port]/repository``, without tag and digest."""
        return f"{self.registry}/{self.repository}"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag is not None else ""
        digest = f"@{self.digest}" if self.digest is not None else ""
        return f"{self.name}{tag}{digest}"

    @property
    def tagged(self) -> ImageReference:
        """This reference with the tag ``latest`` where it has neither tag nor digest."""
        if self.tag is None and self.digest is None:
            return replace(self, tag="latest")
        return self

    def at(self, digest: str) -> str:
        """``host/repository@digest``: what cannot move."""
        return f"{self.name}@{digest}"

    def lies_under(self, uri: RegistryUri) -> bool:
        """Whether this image belongs to a registry URI, by host, port and whole path segments."""
        if (self.host, self.port) != (uri.host, uri.port):
            return False
        return (
            not uri.path
            or self.repository.startswith(f"{uri.path}/")
            or (self.repository == uri.path)
        )


@dataclass(frozen=True, slots=True)
class RegistryUri:
    """Where a registry component's images live: ``host[:port][/path]``."""

    host: str
    port: int | None
    path: str

    @classmethod
    def parse(cls, text: str) -> RegistryUri:
        """Read a registry URI; trailing slashes do not count.

        Raises:
            InvalidReference: naming what is wrong and what would be right.
        """
        bare = text.strip().rstrip("/")
        if "://" in bare:
            raise InvalidReference(
                f"{text!r} must be written without a scheme: {bare.partition('://')[2]!r}"
            )
        if not bare or not bare.isprintable() or any(c.isspace() for c in bare):
            raise InvalidReference(
                f"{text!r} is not a registry URI; write host[:port][/path], "
                "for example registry.example.com/ml"
            )
        first, _, path = bare.partition("/")
        if not _looks_like_host(first):
            raise InvalidReference(
                f"{text!r} does not start with a host; for Docker Hub write {DOCKER_HUB}/{bare}"
            )
        host, port = _split_host(text, first)
        if path:
            if "@" in path or ":" in path:
                raise InvalidReference(f"{text!r} is an image, not a registry; leave its tag out")
            _check_segments(text, path)
        return cls(host, port, path)

    @property
    def registry(self) -> str:
        """``host`` or ``host:port``."""
        return self.host if self.port is None else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether the host is this machine by its name or address alone (no lookup is made)."""
        host = self.host
        return (
            host in {"localhost", "[::1]"}
            or host.endswith(".localhost")
            or re.fullmatch(r"127(?:\.\d{1,3}){3}", host) is not None
        )

    def __str__(self) -> str:
        return f"{self.registry}/{self.path}" if self.path else self.registry


def _looks_like_host(first: str) -> bool:
    """Docker's rule for whether the first part of a name is a host.

    Docker also takes a single capitalised word for a host; here it is a mistake in a
    repository's name, which is what it nearly always is.
    """
    return "." in first or ":" in first or first.lower() == "localhost"


def _split_name(text: str, name: str) -> tuple[str, int | None, str]:
    first, slash, rest = name.partition("/")
    if not slash or not _looks_like_host(first):
        return DOCKER_HUB, None, name
    host, port = _split_host(text, first)
    return host, port, rest


def _split_host(text: str, authority: str) -> tuple[str, int | None]:
    host, port_text = authority, ""
    if not authority.endswith("]"):
        head, colon, tail = authority.rpartition(":")
        if colon:
            host, port_text = head, tail
            if not (port_text.isascii() and port_text.isdigit() and 0 < int(port_text) < 65536):
                raise InvalidReference(f"{text!r} has a bad port {port_text!r}; write 1 to 65535")
    if not _HOST.fullmatch(host):
        raise InvalidReference(
            f"{text!r} has a bad host {host!r}; a host is letters, digits, '-' and '.'"
        )
    host = host.lower()
    if host in _DOCKER_HUB_ALIASES and port_text in {"", "443"}:
        return DOCKER_HUB, None
    return host, int(port_text) if port_text else None


def _check_segments(text: str, path: str) -> None:
    for segment in path.split("/"):
        if _SEGMENT.fullmatch(segment):
            continue
        if not segment:
            raise InvalidReference(f"{text!r} has an empty path segment; write single slashes")
        hint = f"; write {segment.lower()!r}" if _SEGMENT.fullmatch(segment.lower()) else ""
        raise InvalidReference(
            f"{text!r} has a bad path segment {segment!r}; a segment is lower-case letters and "
            f"digits, joined by '.', '_', '__' or '-'{hint}"
        )


def _check_digest(text: str, digest: str) -> None:
    algorithm, _, value = digest.partition(":")
    length = _HEX_LENGTH.get(algorithm)
    fits = _DIGEST.fullmatch(digest) is not None
    if length is not None:
        fits = len(value) == length and re.fullmatch(r"[0-9a-f]+", value) is not None
    if not fits:
        raise InvalidReference(
            f"{text!r} has a bad digest {digest!r}; a digest is sha256: and 64 hex digits"
        )
