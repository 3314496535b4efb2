"""A strict registry's blobs: read here or at another port, broken off or wrong if asked."""

from __future__ import annotations

import re
import secrets
from collections import Counter

from aiohttp import web

from tests.support.strict_registry.rules import Rules
from tests.support.strict_registry.store import Call, Refusal, Store

_PIECE = 64 * 1024


class Blobs:
    """Gives blobs."""

    def __init__(self, store: Store) -> None:
        self._store = store
        #: Base URL of the other port.
        self.storage = ""
        #: Digest → how often it broke off.
        self.cuts: Counter[str] = Counter()
        #: What stands in the addresses that were given, each for one blob.
        self._signatures: dict[str, str] = {}

    async def answer(self, call: Call, rules: Rules) -> web.StreamResponse:
        """``HEAD`` and ``GET``."""
        digest = call.reference
        if call.method not in {"GET", "HEAD"}:
            raise Refusal(405, "UNSUPPORTED")
        if digest not in self._store.find(call.repository).blobs:
            raise Refusal(404, "BLOB_UNKNOWN", f"no blob {digest} in {call.repository}")
        if call.method == "HEAD":
            return web.Response(headers=self._headers(digest, rules))
        if rules.redirect:
            signature = secrets.token_hex(8)
            self._signatures[signature] = digest
            place = f"{self.storage}/{digest}?signature={signature}"
            return web.Response(status=307, headers={"Location": place})
        return await self._send(call.request, digest, rules)

    async def stored(self, request: web.Request, rules: Rules) -> web.StreamResponse:
        """Answer at the other port, which takes a signature for a login."""
        self._store.counts.requests[request.method, "storage"] += 1
        if "Authorization" in request.headers:
            self._store.violations.append(f"credentials were sent to the storage: {request.path}")
            raise Refusal(400, "DENIED", "one kind of login only")
        digest = request.path.removeprefix("/")
        if self._signatures.get(request.query.get("signature", "")) != digest:
            raise Refusal(403, "DENIED", "no such signature")
        return await self._send(request, digest, rules)

    def _headers(self, digest: str, rules: Rules) -> dict[str, str]:
        headers = {
            "Content-Type": "application/octet-stream",
            "Docker-Content-Digest": digest,
            "Content-Length": str(len(self._store.blobs[digest])),
        }
        if rules.etags:
            headers["ETag"] = f'"{digest}"'
        if rules.ranges:
            headers["Accept-Ranges"] = "bytes"
        return headers

    async def _send(self, request: web.Request, digest: str, rules: Rules) -> web.StreamResponse:
        data = self._store.blobs[digest]
        if digest in rules.corrupt:
            data = data[:-1] + bytes([data[-1] ^ 1])
        headers, status, start = self._headers(digest, rules), 200, 0
        part = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        same = request.headers.get("If-Range", headers.get("ETag", "")) == headers.get("ETag", "")
        if part and rules.ranges and same:
            status, start = 206, int(part[1])
            if start >= len(data):
                raise Refusal(416, "SIZE_INVALID")
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            headers["Content-Length"] = str(len(data) - start)
        response = web.StreamResponse(status=status, headers=headers)
        await response.prepare(request)
        end = self._end(digest, start, len(data), rules)
        for place in range(start, end, _PIECE):
            piece = data[place : min(place + _PIECE, end)]
            await response.write(piece)
            self._store.counts.downloaded[digest] += len(piece)
        if end < len(data):
            self._store.counts.cuts += 1
            # What was written is sent before the connection ends.
            assert request.transport is not None
            request.transport.close()
            return response
        await response.write_eof()
        return response

    def _end(self, digest: str, start: int, size: int, rules: Rules) -> int:
        """Where the answer ends, or breaks off."""
        if rules.cut_download is None or size - start <= rules.cut_download:
            return size
        if self.cuts[digest] >= rules.cut_downloads:
            return size
        self.cuts[digest] += 1
        return start + rules.cut_download
