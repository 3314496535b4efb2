"""A strict registry's manifests, referrers and lists."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any
from urllib.parse import quote

from aiohttp import web

from tests.support.strict_registry.rules import Rules
from tests.support.strict_registry.store import (
    Call,
    Refusal,
    Repository,
    Store,
    StoredManifest,
    blobs_of,
)

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_INDEX = "application/vnd.oci.image.index.v1+json"
#: distribution-spec 1.1: a registry should take 4 MiB; more is refused here.
_LARGEST = 4 * 2**20


class Manifests:
    """Takes and gives manifests."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def answer(self, call: Call, rules: Rules) -> web.StreamResponse:
        """``GET``, ``HEAD`` and ``PUT``."""
        if call.method == "PUT":
            return await self._put(call, rules)
        if call.method not in {"GET", "HEAD"}:
            raise Refusal(405, "UNSUPPORTED")
        repository = self._store.find(call.repository)
        digest = repository.tags.get(call.reference, call.reference)
        found = repository.manifests.get(digest)
        if found is None:
            raise Refusal(404, "MANIFEST_UNKNOWN", f"no manifest {call.reference}")
        # Clients may send the header once for each type.
        accepted = ", ".join(call.request.headers.getall("Accept", ["*/*"]))
        if found.media_type not in accepted and "*/*" not in accepted:
            raise Refusal(404, "MANIFEST_UNKNOWN", f"it is {found.media_type}")
        headers = {"Content-Type": found.media_type, "Docker-Content-Digest": digest}
        if call.method == "HEAD":
            return web.Response(headers={**headers, "Content-Length": str(len(found.body))})
        return web.Response(body=found.body, headers=headers)

    async def _put(self, call: Call, rules: Rules) -> web.StreamResponse:
        body = await call.request.content.read(_LARGEST + 1)
        while piece := await call.request.content.read(_LARGEST):
            body += piece
        if len(body) > _LARGEST:
            raise Refusal(413, "SIZE_INVALID", "a manifest has 4 MiB at most")
        data = _parsed(body, call.request.headers.get("Content-Type", ""))
        repository = self._store.repository(call.repository)
        if rules.checks_parts:
            self._check_parts(repository, data, rules)
        digest = self._named(call, repository, body, rules)
        repository.manifests[digest] = StoredManifest(body, data["mediaType"], data)
        if digest != call.reference:
            repository.tags[call.reference] = digest
        headers = {
            "Location": f"/v2/{call.repository}/manifests/{digest}",
            "Docker-Content-Digest": digest,
        }
        if rules.referrers and rules.oci_subject and "subject" in data:
            headers["OCI-Subject"] = data["subject"]["digest"]
        return web.Response(status=201, headers=headers)

    def _named(self, call: Call, repository: Repository, body: bytes, rules: Rules) -> str:
        """The manifest's digest, if it may be written under this reference."""
        algorithm, _, value = call.reference.partition(":")
        if value:
            if algorithm not in {"sha256", "sha512"}:
                raise Refusal(400, "DIGEST_INVALID", f"unknown algorithm {algorithm}")
            digest = f"{algorithm}:{hashlib.new(algorithm, body).hexdigest()}"
            if digest != call.reference:
                raise Refusal(400, "DIGEST_INVALID", f"what came is {digest}")
            return digest
        if not _TAG.fullmatch(call.reference):
            raise Refusal(400, "TAG_INVALID", f"{call.reference!r} is no tag")
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        if rules.immutable_tags and repository.tags.get(call.reference, digest) != digest:
            raise Refusal(400, "TAG_INVALID", f"the tag {call.reference} is immutable")
        return digest

    def _check_parts(self, repository: Repository, data: dict[str, Any], rules: Rules) -> None:
        """Refuse a manifest whose blobs or children are not here, with these sizes."""
        sizes = {digest: len(self._store.blobs[digest]) for digest in repository.blobs}
        needed = blobs_of(data)
        for child in data.get("manifests", []):
            found = repository.manifests.get(child["digest"])
            if found is not None:
                sizes[child["digest"]] = len(found.body)
            elif not rules.index_of_blobs:
                sizes.pop(child["digest"], None)
            needed[child["digest"]] = child["size"]
        for digest, size in needed.items():
            if digest not in sizes:
                raise Refusal(400, "MANIFEST_BLOB_UNKNOWN", f"{digest} is not here")
            if sizes[digest] != size:
                raise Refusal(400, "MANIFEST_INVALID", f"{digest} has {sizes[digest]} bytes")


class Lists:
    """Tags, repositories and referrers."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def answer(self, call: Call, rules: Rules) -> web.StreamResponse:
        """``GET`` of one of them."""
        if call.method != "GET":
            raise Refusal(405, "UNSUPPORTED")
        if call.kind == "referrers":
            return self._referrers(call, rules)
        if call.kind == "catalog":
            names = (name for name, one in self._store.repositories.items() if one.manifests)
            return self._page(call, rules, "/v2/_catalog", "repositories", sorted(names))
        tags = sorted(self._store.find(call.repository).tags)
        path = f"/v2/{call.repository}/tags/list"
        return self._page(call, rules, path, "tags", tags, name=call.repository)

    def _page(
        self, call: Call, rules: Rules, path: str, key: str, entries: list[str], **more: str
    ) -> web.Response:
        query = call.request.query
        asked = int(query.get("n", "0")) or len(entries)
        size = min(asked, rules.page_size or asked)
        rest = [one for one in entries if one > query.get("last", "")]
        page = rest[:size]
        headers = {}
        if len(rest) > len(page):
            following = f"{path}?n={size}&last={quote(page[-1], safe='')}"
            headers["Link"] = f'<{following}>; rel="next"'
        return web.json_response({**more, key: page}, headers=headers)

    def _referrers(self, call: Call, rules: Rules) -> web.Response:
        if not rules.referrers:
            raise Refusal(404, "UNSUPPORTED", "no referrers API")
        repository = self._store.repositories.get(call.repository, Repository())
        entries = [
            _entry(digest, one)
            for digest, one in repository.manifests.items()
            if one.data.get("subject", {}).get("digest") == call.reference
            and digest not in rules.unlisted
        ]
        headers = {"Content-Type": _INDEX}
        wanted = call.request.query.get("artifactType")
        if wanted is not None:
            entries = [one for one in entries if one.get("artifactType") == wanted]
            headers["OCI-Filters-Applied"] = "artifactType"
        index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": entries}
        return web.Response(body=json.dumps(index).encode(), headers=headers)


def _entry(digest: str, manifest: StoredManifest) -> dict[str, Any]:
    data = manifest.data
    kind = data.get("artifactType") or data.get("config", {}).get("mediaType")
    entry = {"mediaType": manifest.media_type, "digest": digest, "size": len(manifest.body)}
    if kind:
        entry["artifactType"] = kind
    if "annotations" in data:
        entry["annotations"] = data["annotations"]
    return entry


def _parsed(body: bytes, content_type: str) -> dict[str, Any]:
    try:
        data = json.loads(body)
    except ValueError:
        raise Refusal(400, "MANIFEST_INVALID", "not JSON") from None
    if not isinstance(data, dict) or data.get("schemaVersion") != 2:
        raise Refusal(400, "MANIFEST_INVALID", "not of schema 2")
    if data.setdefault("mediaType", content_type) != content_type or not content_type:
        raise Refusal(400, "MANIFEST_INVALID", "Content-Type and mediaType differ")
    return data
