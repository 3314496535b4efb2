"""Puts a corpus into a registry: each blob is sent once and mounted where else it belongs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Final

import aiohttp
from yarl import URL

from tests.support.images.corpus import MANIFEST_TYPE, Corpus, Image, Layer, digest_of

#: Requests at a time; a local registry does not get faster by more.
_AT_ONCE: Final = 8

#: Headers of a request that may write to a repository and read from another, if any.
Authorize = Callable[[str, str | None], Mapping[str, str]]


def fill(base: str, corpus: Corpus, authorize: Authorize | None = None) -> None:
    """Put all images of a corpus into the registry at a URL.

    Raises:
        aiohttp.ClientResponseError: the registry refuses.
    """
    asyncio.run(_fill(base, corpus, authorize or (lambda *_: {})))


def fill_with_links(base: str, corpus: Corpus, data: Path) -> None:
    """The same for a distribution 2.8 whose data folder is here, quicker for many tags.

    The first tag of each manifest is put; the others are written as the files that they are
    there.
    """
    first = {(image.repository, image.digest): image for image in reversed(corpus.images)}
    fill(base, Corpus(corpus.name, tuple(reversed(first.values()))))
    for image in corpus.images:
        names = data / "docker/registry/v2/repositories" / image.repository / "_manifests/tags"
        for place in ("current", f"index/{image.digest.replace(':', '/')}"):
            link = names / image.tag / place / "link"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.write_text(image.digest)


async def _fill(base: str, corpus: Corpus, authorize: Authorize) -> None:
    # No total limit: a layer may be large.
    timeout = aiohttp.ClientTimeout(total=None, sock_read=120)
    async with aiohttp.ClientSession(
        timeout=timeout, raise_for_status=True, read_bufsize=2**20
    ) as session:
        filler = _Filler(session, base.rstrip("/"), authorize)
        await _each([filler.blob(*one) for one in _wanted(corpus)])
        # The manifests of a repository in turn: distribution 2.8 keeps tags in plain files.
        by_name: dict[str, list[Image]] = {}
        for image in corpus.images:
            by_name.setdefault(image.repository, []).append(image)
        await _each([filler.manifests(images) for images in by_name.values()])


class _Filler:
    """Sends to one registry."""

    def __init__(self, session: aiohttp.ClientSession, base: str, authorize: Authorize) -> None:
        self._session = session
        self._base = base
        self._authorize = authorize

    async def blob(self, digest: str, content: Layer | bytes, repositories: list[str]) -> None:
        first, *others = repositories
        place, _ = await self._start(first, "")
        await self._send(place, first, digest, content)
        # One after another: distribution 2.8 may break a link that is made twice at once.
        for other in others:
            query = f"?mount={digest}&from={first}"
            place, mounted = await self._start(other, query, first)
            if not mounted:
                await self._send(place, other, digest, content)

    async def manifests(self, images: list[Image]) -> None:
        for image in images:
            url = f"{self._base}/v2/{image.repository}/manifests/{image.tag}"
            headers = {"Content-Type": MANIFEST_TYPE, **self._authorize(image.repository, None)}
            async with self._session.put(url, data=image.manifest, headers=headers):
                pass

    async def _start(
        self, repository: str, query: str, source: str | None = None
    ) -> tuple[URL, bool]:
        url = f"{self._base}/v2/{repository}/blobs/uploads/{query}"
        headers = {"Content-Length": "0", **self._authorize(repository, source)}
        async with self._session.post(url, headers=headers) as answer:
            place = answer.url.join(URL(answer.headers["Location"], encoded=True))
            return place, answer.status == 201

    async def _send(self, place: URL, repository: str, digest: str, content: Layer | bytes) -> None:
        size = len(content) if isinstance(content, bytes) else content.size
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(size),
            **self._authorize(repository, None),
        }
        url = URL(f"{place}{'&' if place.raw_query_string else '?'}digest={digest}", encoded=True)
        data = content if isinstance(content, bytes) else _stream(content)
        async with self._session.put(url, data=data, headers=headers):
            pass


def _wanted(corpus: Corpus) -> list[tuple[str, Layer | bytes, list[str]]]:
    """Each blob with its digest and the repositories that it belongs to."""
    contents: dict[str, Layer | bytes] = {}
    places: dict[str, dict[str, None]] = {}
    for image in corpus.images:
        blobs: tuple[Layer | bytes, ...] = (*image.layers, image.config)
        for blob in blobs:
            digest = digest_of(blob) if isinstance(blob, bytes) else blob.digest
            contents[digest] = blob
            places.setdefault(digest, {})[image.repository] = None
    return [(digest, blob, list(places[digest])) for digest, blob in contents.items()]


async def _each(work: Sequence[Coroutine[None, None, None]]) -> None:
    """Do it all, some at a time; the first failure ends the rest."""
    turns = asyncio.Semaphore(_AT_ONCE)

    async def one(part: Coroutine[None, None, None]) -> None:
        async with turns:
            await part

    async with asyncio.TaskGroup() as tasks:
        for part in work:
            tasks.create_task(one(part))


async def _stream(layer: Layer) -> AsyncIterator[bytes]:
    """A layer in larger pieces, each a turn of the loop."""
    waiting = bytearray()
    for piece in layer.pieces():
        waiting += piece
        if len(waiting) >= 2**20:
            yield bytes(waiting)
            waiting.clear()
    yield bytes(waiting)
