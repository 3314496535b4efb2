"""A strict registry's uploads and mounts (distribution-spec 1.1, "Pushing blobs")."""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets

from aiohttp import web

from tests.support.strict_registry.rules import Rules
from tests.support.strict_registry.store import Call, Refusal, Store, Upload

_DIGEST = re.compile(r"(sha256):[0-9a-f]{64}|(sha512):[0-9a-f]{128}")


class Uploads:
    """Takes blobs."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._mounting: set[tuple[str, str]] = set()
        #: How many bodies broke off on purpose.
        self.cuts = 0

    async def answer(self, call: Call, rules: Rules) -> web.StreamResponse:
        """``POST`` opens or mounts; the others go to an upload's last address."""
        if call.method == "POST" and not call.reference:
            return await self._open(call, rules)
        upload = self._find(call)
        if call.method == "GET":
            return self._told(call, upload, 204)
        if call.method == "DELETE":
            del self._store.uploads[call.reference]
            return web.Response(status=204)
        if call.method not in {"PATCH", "PUT"}:
            raise Refusal(405, "UNSUPPORTED")
        before = len(upload.data)
        await self._take(call, upload, rules)
        if call.method == "PATCH":
            return self._told(call, upload, 202)
        return self._close(call, upload, before)

    async def _open(self, call: Call, rules: Rules) -> web.StreamResponse:
        query = call.request.query
        digest, source = query.get("mount", ""), query.get("from", "")
        if digest and await self._mount(call.repository, digest, source, rules):
            return _created(call.repository, digest)
        algorithm = query.get("digest-algorithm", "sha256")
        if algorithm not in {"sha256", "sha512"}:
            raise Refusal(400, "DIGEST_INVALID", f"unknown algorithm {algorithm}")
        # A blob in the POST itself may be refused by opening an upload: so it is here.
        upload = Upload(call.repository, algorithm)
        name = secrets.token_hex(8)
        self._store.uploads[name] = upload
        return self._told(call._replace(reference=name), upload, 202)

    async def _mount(self, repository: str, digest: str, source: str, rules: Rules) -> bool:
        counts, key = self._store.counts, (repository, digest)
        if key in self._mounting:
            self._store.violations.append(f"two mounts at once of {digest} into {repository}")
        self._mounting.add(key)
        try:
            await asyncio.sleep(rules.mount_s)
        finally:
            self._mounting.discard(key)
        origin = self._store.repositories.get(source)
        if (
            not rules.mounts
            or origin is None
            or digest not in origin.blobs
            or (rules.mounts_need_manifest and not origin.references(digest))
        ):
            counts.refused_mounts += 1
            return False
        self._store.repository(repository).blobs.add(digest)
        counts.mounts[key] += 1
        return True

    def _find(self, call: Call) -> Upload:
        upload = self._store.uploads.get(call.reference)
        query = call.request.raw_path.partition("?")[2].split("&")
        if upload is None or upload.repository != call.repository:
            raise Refusal(404, "BLOB_UPLOAD_UNKNOWN")
        if f"state={upload.state}" not in query:
            raise Refusal(404, "BLOB_UPLOAD_INVALID", "not the upload's last address")
        return upload

    async def _take(self, call: Call, upload: Upload, rules: Rules) -> None:
        """Add a request's body to an upload."""
        headers, size = call.request.headers, call.request.content_length
        if size is None and call.request.can_read_body and rules.lengths:
            raise Refusal(411, "SIZE_INVALID", "Content-Length is missing")
        if size == 0 or not call.request.can_read_body:
            return
        part = headers.get("Content-Range")
        if not rules.chunks and (part is not None or upload.bodies):
            raise Refusal(405, "UNSUPPORTED", "blobs come in one body")
        if part is not None or upload.bodies:
            self._check_order(call, upload, part, size)
        upload.bodies += 1
        await self._read(call, upload, rules)

    def _check_order(self, call: Call, upload: Upload, part: str | None, size: int | None) -> None:
        found = re.fullmatch(r"(\d+)-(\d+)", part or "")
        if found is None or size is None:
            raise Refusal(400, "BLOB_UPLOAD_INVALID", "a chunk tells Content-Range and -Length")
        if int(found[2]) - int(found[1]) + 1 != size:
            raise Refusal(400, "SIZE_INVALID", "Content-Range and Content-Length differ")
        if int(found[1]) != len(upload.data):
            told = self._told(call, upload, 416)
            raise Refusal(416, "BLOB_UPLOAD_INVALID", "out of order", dict(told.headers))

    async def _read(self, call: Call, upload: Upload, rules: Rules) -> None:
        cut = rules.cut_upload if self.cuts < rules.cut_uploads else None
        taken = 0
        try:
            async for piece in call.request.content.iter_any():
                kept = piece if cut is None else piece[: cut - taken]
                upload.data += kept
                taken += len(kept)
                self._store.counts.received += len(kept)
                if cut is not None and taken >= cut:
                    self.cuts += 1
                    self._store.counts.cuts += 1
                    raise ConnectionResetError("cut on purpose")
        except (OSError, asyncio.CancelledError, web.PayloadAccessError):
            if not rules.keeps_uploads:
                self._store.uploads.pop(call.reference, None)
            if call.request.transport is not None:
                call.request.transport.abort()
            raise

    def _close(self, call: Call, upload: Upload, before: int) -> web.StreamResponse:
        digest = call.request.query.get("digest", "")
        if not _DIGEST.fullmatch(digest):
            raise Refusal(400, "DIGEST_INVALID", f"{digest!r} is no digest")
        if digest.partition(":")[0] != upload.algorithm:
            raise Refusal(400, "DIGEST_INVALID", "another algorithm was told when it was opened")
        data = bytes(upload.data)
        found = f"{upload.algorithm}:{hashlib.new(upload.algorithm, data).hexdigest()}"
        if found != digest:
            # What this request brought is dropped: an upload that went wrong can go on.
            del upload.data[before:]
            raise Refusal(400, "DIGEST_INVALID", f"what came is {found}")
        del self._store.uploads[call.reference]
        self._store.blobs.setdefault(digest, data)
        self._store.repository(call.repository).blobs.add(digest)
        self._store.counts.uploaded[digest] += len(data)
        return _created(call.repository, digest)

    def _told(self, call: Call, upload: Upload, status: int) -> web.Response:
        """Where the upload stands, and its next address: relative, with a query."""
        place = f"/v2/{call.repository}/blobs/uploads/{call.reference}?state={upload.new_state()}"
        reached = f"0-{max(len(upload.data) - 1, 0)}"
        return web.Response(status=status, headers={"Location": place, "Range": reached})


def _created(repository: str, digest: str) -> web.Response:
    place = f"/v2/{repository}/blobs/{digest}"
    return web.Response(status=201, headers={"Location": place, "Docker-Content-Digest": digest})
