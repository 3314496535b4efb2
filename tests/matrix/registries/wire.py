"""A registry asked by plain requests that share no code with what is tested."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urljoin

import requests

MANIFEST_TYPES: Final = (
    "application/vnd.docker.distribution.manifest.v2+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.oci.image.index.v1+json"
)

#: Headers of a request for some actions (``pull``, ``pull,push``) in a repository.
Authorize = Callable[[str, str], Mapping[str, str]]


class CheckFailed(AssertionError):
    """What is not as it has to be."""


def expect(condition: object, message: str) -> None:
    """Fail the case with this message unless the condition is true."""
    if not condition:
        raise CheckFailed(message)


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    """The digest of these bytes."""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


@dataclass(frozen=True)
class Served:
    """A manifest as a registry gives it."""

    body: bytes
    media_type: str


class Wire:
    """One registry at a base URL (without ``/v2/``)."""

    def __init__(self, base: str, authorize: Authorize | None = None) -> None:
        self.base = base.rstrip("/")
        self._authorize = authorize or (lambda *_: {})
        self._session = requests.Session()
        # No proxy, no login of this machine.
        self._session.trust_env = False

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def ask(
        self, method: str, path: str, *, actions: str = "pull", **more: Any
    ) -> requests.Response:
        """``METHOD /v2/PATH`` with all rights that the actions need."""
        repository = path
        for mark in ("/manifests/", "/blobs/", "/tags/", "/referrers/"):
            repository = repository.partition(mark)[0]
        headers = {**self._authorize(repository, actions), **more.pop("headers", {})}
        url = f"{self.base}/v2/{path}"
        return self._session.request(method, url, headers=headers, timeout=60, **more)

    def put_blob(self, repository: str, data: bytes, algorithm: str = "sha256") -> None:
        """Upload a blob."""
        query = "" if algorithm == "sha256" else f"?digest-algorithm={algorithm}"
        opened = self.ask("POST", f"{repository}/blobs/uploads/{query}", actions="pull,push")
        opened.raise_for_status()
        where = urljoin(opened.url, opened.headers["Location"])
        mark = "&" if "?" in where else "?"
        headers = {
            "Content-Type": "application/octet-stream",
            **self._authorize(repository, "pull,push"),
        }
        url = f"{where}{mark}digest={digest_of(data, algorithm)}"
        self._session.put(url, data=data, headers=headers, timeout=60).raise_for_status()

    def put_manifest(self, repository: str, reference: str, served: Served) -> None:
        """Write a manifest under a tag or its digest."""
        self.ask(
            "PUT",
            f"{repository}/manifests/{reference}",
            actions="pull,push",
            data=served.body,
            headers={"Content-Type": served.media_type},
        ).raise_for_status()

    def delete_manifest(self, repository: str, digest: str, *, tag: str = "") -> None:
        """Delete a manifest, and a tag of it that the registry leaves."""
        path = f"{repository}/manifests/"
        self.ask("DELETE", path + digest, actions="pull,push,delete").raise_for_status()
        if tag and self.manifest(repository, tag):
            self.ask("DELETE", path + tag, actions="pull,push,delete").raise_for_status()

    def manifest(self, repository: str, reference: str) -> Served | None:
        """A manifest by tag or digest; ``None``: there is none."""
        path = f"{repository}/manifests/{reference}"
        answer = self.ask("GET", path, headers={"Accept": MANIFEST_TYPES})
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        return Served(answer.content, answer.headers.get("Content-Type", ""))

    def blob(self, repository: str, digest: str) -> bytes | None:
        """A blob, whose digest is checked; ``None``: there is none."""
        answer = self.ask("GET", f"{repository}/blobs/{digest}")
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        found = digest_of(answer.content, digest.partition(":")[0])
        expect(found == digest, f"the blob {digest} is {found}")
        return answer.content

    def tags(self, repository: str) -> list[str]:
        """The tags of the first page, sorted."""
        answer = self.ask("GET", f"{repository}/tags/list?n=1000")
        return sorted(answer.json().get("tags") or []) if answer.ok else []
