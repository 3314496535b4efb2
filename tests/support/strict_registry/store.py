"""What a strict registry holds, and what it saw."""

from __future__ import annotations

import secrets
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aiohttp import web


class Refusal(Exception):
    """A request that is refused, with the code of the specification."""

    def __init__(
        self, status: int, code: str, message: str = "", headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"errors": [{"code": code, "message": message or code.lower(), "detail": {}}]}
        self.headers = headers or {}

    def answer(self) -> web.Response:
        """As HTTP."""
        return web.json_response(self.body, status=self.status, headers=self.headers)


class Call(NamedTuple):
    """One request, taken apart."""

    request: web.Request
    #: blob, upload, manifest, tags, catalog, referrers, ping, token
    kind: str
    repository: str
    #: A tag, a digest, or an upload's id.
    reference: str

    @property
    def method(self) -> str:
        """In capitals."""
        return self.request.method


class StoredManifest(NamedTuple):
    """A manifest as it came."""

    body: bytes
    media_type: str
    data: dict[str, Any]


@dataclass
class Upload:
    """An upload that is open."""

    repository: str
    algorithm: str
    data: bytearray = field(default_factory=bytearray)
    #: Part of its address, another one in each answer.
    state: str = ""
    #: Bodies that it took so far.
    bodies: int = 0

    def new_state(self) -> str:
        """Move it to another address."""
        # Encoded characters: an address is to be used byte for byte.
        self.state = f"{secrets.token_hex(6)}%2B%3D"
        return self.state


@dataclass
class Repository:
    """One repository."""

    blobs: set[str] = field(default_factory=set)
    manifests: dict[str, StoredManifest] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def references(self, digest: str) -> bool:
        """Whether a manifest here names a blob."""
        return any(digest in blobs_of(one.data) for one in self.manifests.values())


class Counts:
    """What came, since the start or the last ``clear``."""

    def __init__(self) -> None:
        #: (method, kind) → number; kinds as in ``Call``, and ``storage`` for the other port.
        self.requests: Counter[tuple[str, str]] = Counter()
        #: Digest → bytes of the bodies that became this blob. Unit: bytes.
        self.uploaded: Counter[str] = Counter()
        #: Bytes of all uploads' bodies, also of those that broke. Unit: bytes.
        self.received = 0
        #: Digest → bytes that were read. Unit: bytes.
        self.downloaded: Counter[str] = Counter()
        #: (repository, digest) → mounts that succeeded.
        self.mounts: Counter[tuple[str, str]] = Counter()
        #: Mounts that were answered with an upload.
        self.refused_mounts = 0
        #: Requests that were answered with 429.
        self.throttled = 0
        #: Answers and bodies that were cut.
        self.cuts = 0
        #: Tokens that were given.
        self.tokens = 0

    def of(self, kind: str, *methods: str) -> int:
        """Requests of one kind: all of them, or those with these methods."""
        return sum(
            number
            for (method, found), number in self.requests.items()
            if found == kind and (not methods or method in methods)
        )


class Store:
    """All that stands in memory."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.repositories: dict[str, Repository] = {}
        self.uploads: dict[str, Upload] = {}
        self.counts = Counts()
        #: What no client may do, whatever the answer.
        self.violations: list[str] = []

    def repository(self, name: str) -> Repository:
        """Made when it is first written to."""
        return self.repositories.setdefault(name, Repository())

    def find(self, name: str) -> Repository:
        """One that exists.

        Raises:
            Refusal: it does not.
        """
        if name not in self.repositories:
            raise Refusal(404, "NAME_UNKNOWN", f"no repository {name}")
        return self.repositories[name]


def blobs_of(data: dict[str, Any]) -> dict[str, int]:
    """Digest → size of the blobs that a manifest needs; not of those that lie elsewhere."""
    found = [*data.get("layers", []), *([data["config"]] if "config" in data else [])]
    return {one["digest"]: one["size"] for one in found if not one.get("urls")}
