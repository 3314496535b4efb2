"""Lists that come in pages, followed by their ``Link`` headers (RFC 8288).

A registry must not keep a worker busy for ever: pages, and the bytes of each, are bounded,
and a page that comes twice ends the list with an error.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from yarl import URL

from transship.errors import AnswerMalformed, ImageNotFound, RepositoryMissing
from transship_worker.oci.client import RegistryClient
from transship_worker.oci.errors import shown
from transship_worker.oci.exchange import Answer, Request
from transship_worker.oci.headers import next_link, unknown_links

#: Pages of one list that are read.
PAGES: Final = 10_000


@dataclass(frozen=True, slots=True)
class Page:
    """One page: a JSON object."""

    data: dict[str, Any]
    #: What was not as expected, and yet no error: 404 and the like.
    status: int
    #: The registry linked a next page.
    linked: bool = False


async def pages(
    client: RegistryClient,
    request: Request,
    *,
    limit: int,
    most: int = PAGES,
    taken: Callable[[int], bool] | None = None,
) -> AsyncIterator[Page]:
    """The pages of a list, each of at most ``limit`` bytes. ``taken``: see ``read_bounded``.

    A status that the request expects besides 200 gives one page without data, where it is that
    of the first page: a page that was linked must be there.

    Raises:
        AnswerMalformed: a page is no JSON object, comes twice, or its link cannot be read or
            followed, or there are more than ``most``.
        PushError: the registry refuses, or does not answer.
    """
    # Fingerprints: a registry could make each of its links some kilobytes long.
    seen = {_fingerprint(request.url)}
    for number in range(most):
        try:
            answer = await client.ask(request, limit=limit, taken=taken)
        except (ImageNotFound, RepositoryMissing) as error:
            if not number:
                raise
            raise AnswerMalformed(
                f"{request.about}: the registry does not have the next page that it linked "
                f"({error.message})"
            ) from error.__cause__
        if answer.status != 200:
            yield Page({}, answer.status)
            return
        seen.add(_fingerprint(answer.url))
        url = await _next_page(client, request, answer, seen)
        yield Page(_object(answer.body, request), answer.status, linked=url is not None)
        if url is None:
            return
        if _fingerprint(url) in seen:
            raise AnswerMalformed(f"{shown(url)}: the pages of {request.about} go in a circle")
        seen.add(_fingerprint(url))
        request = replace(request, url=url, expected=frozenset({200}))
    raise AnswerMalformed(f"{request.about} has more than {most} pages, which are not read")


async def _next_page(
    client: RegistryClient, request: Request, answer: Answer, seen: set[bytes]
) -> URL | None:
    """Where the next page is; ``None``: the registry links none."""
    headers = answer.headers.getall("Link", [])
    try:
        link = next_link(headers)
        unknown = unknown_links(headers) if link is None else []
    except AnswerMalformed as error:
        raise AnswerMalformed(f"{request.about}: {client.speaker.clean(error.message)}") from None
    if link is None:
        return await _unnamed_page(client, request, answer, unknown, seen)
    url = client.resolve(link, answer.url)
    if client.endpoint.own(url, await client.base()) is None:
        raise AnswerMalformed(f"{request.about}: its next page is at another host, {shown(url)}")
    return url


async def _unnamed_page(
    client: RegistryClient, request: Request, answer: Answer, links: list[str], seen: set[bytes]
) -> URL | None:
    """Where a link to the same list leads that does not say what it is; ``None``: nowhere new.

    Raises:
        AnswerMalformed: there are several, and nothing says which of them is next.
    """
    pages: dict[bytes, URL] = {}
    for link in links:
        with suppress(AnswerMalformed):
            url = client.resolve(link, answer.url)
            own = client.endpoint.own(url, await client.base()) is not None
            if own and url.raw_path == answer.url.raw_path and url.query_string:
                pages[_fingerprint(url)] = url
    new = [url for fingerprint, url in pages.items() if fingerprint not in seen]
    if len(new) > 1:
        raise AnswerMalformed(
            f"{request.about}: the registry links {len(new)} other pages, none of them as the next"
        )
    return new[0] if new else None


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
