"""Lists that come in pages, followed by their ``Link`` headers (RFC 8288).

A registry must not keep a worker busy for ever: pages, and the bytes of each, are bounded,
and a page that comes twice ends the list with an error.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any, Final

from yarl import URL

from transship.errors import AnswerMalformed
from transship_worker.oci.client import RegistryClient, Request
from transship_worker.oci.errors import shown
from transship_worker.oci.headers import next_link

#: Pages of one list that are read.
PAGES: Final = 10_000


@dataclass(frozen=True, slots=True)
class Page:
    """One page: a JSON object."""

    data: dict[str, Any]
    #: What was not as expected, and yet no error: 404 and the like.
    status: int


async def pages(
    client: RegistryClient, request: Request, *, limit: int, most: int = PAGES
) -> AsyncIterator[Page]:
    """The pages of a list, each of at most ``limit`` bytes.

    A status that the request expects besides 200 gives one page without data.

    Raises:
        AnswerMalformed: a page is no JSON object, comes twice, or there are more than ``most``.
        PushError: the registry refuses, or does not answer.
    """
    # Fingerprints: a registry could make each of its links some kilobytes long.
    seen = {_fingerprint(request.url)}
    for _ in range(most):
        answer = await client.ask(request, limit=limit)
        if answer.status != 200:
            yield Page({}, answer.status)
            return
        yield Page(_object(answer.body, request), answer.status)
        link = next_link(answer.headers.getall("Link", []))
        if not link:
            return
        url = client.resolve(link, answer.url)
        if _fingerprint(url) in seen:
            raise AnswerMalformed(f"{shown(url)}: the pages of {request.about} go in a circle")
        seen.add(_fingerprint(url))
        if client.endpoint.own(url, await client.base()) is None:
            raise AnswerMalformed(
                f"{request.about}: its next page is at another host, {shown(url)}"
            )
        request = replace(request, url=url)
    raise AnswerMalformed(f"{request.about} has more than {most} pages, which are not read")


def _fingerprint(url: URL) -> bytes:
    return hashlib.blake2b(str(url).encode(), digest_size=16).digest()


def _object(body: bytes, request: Request) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise AnswerMalformed(f"{shown(request.url)} did not answer with a JSON object")
    return found
