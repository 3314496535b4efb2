"""Lists of names, read to their end: by links, or by ``last=`` where a registry sends no links.

A list is complete when the registry says so by not linking a next page, and is known to link
pages (distribution-spec 1.1, "Listing Tags"). Some registries page and link nothing; others
know neither ``n`` nor ``last`` and give all names each time (distribution 2.8, tags). So a list
without a link that could be a page is asked for what comes after it, until nothing new comes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, Final

from transship.errors import AnswerMalformed, ImageNotFound, PushRejected, RepositoryMissing
from transship_worker.oci.client import RegistryClient
from transship_worker.oci.exchange import Request
from transship_worker.oci.names import Warn
from transship_worker.oci.paging import PAGES, pages

#: The largest page. distribution 2.8 does not page tags: it gives all of them. Unit: bytes.
PAGE_LIMIT: Final = 8 * 1024 * 1024
#: Names of one list that are read: who plans keeps them in memory.
NAMES_LIMIT: Final = 1_000_000
#: A list without a link that has so many names can be a page: registries cap pages below ``n``,
#: and the smallest cap that was seen is 50 (Quay, deitch/docker_registry2#56).
LEAST_PAGE: Final = 50

#: No longer name is sent as ``last``. Unit: characters.
LONGEST_CURSOR: Final = 512


async def entries(
    client: RegistryClient,
    request: Request,
    key: str,
    *,
    page_size: int,
    warn: Warn | None = None,
) -> AsyncIterator[list[Any]]:
    """The entries of a list as the registry gives them, some at a time; some may come twice.

    ``request`` has no query, and ``key`` is the list's in each page. ``warn`` hears where the
    registry refuses to continue a list that may have more; without it, that is an error.

    Raises:
        AnswerMalformed: what came is no such list, or one that cannot be read to its end.
        PushError: the registry refuses, or does not answer.
    """
    links, rest = client.learned.linked_lists, _Rest(page_size, request.about)
    url, count, left = request.url, 0, PAGES
    request = replace(request, url=url.with_query(n=page_size))
    while left > 0:
        before = left
        try:
            async for page in pages(client, request, limit=PAGE_LIMIT, most=left):
                left -= 1
                found = _list(page.data, key, request.about, first=not count)
                if page.linked:
                    links.add(key)
                new = found if key in links else rest.take(found)
                count += len(new)
                if count > NAMES_LIMIT:
                    raise AnswerMalformed(
                        f"{request.about} are more than {NAMES_LIMIT} names, which are not read"
                    )
                if new:
                    yield new
        except (PushRejected, ImageNotFound, RepositoryMissing) as error:
            if warn is None or not rest.asked or left < before:
                raise
            warn(f"the list may have more than {count:,} names: {error.message}")
            return
        last = rest.cursor() if key not in links else None
        if last is None:
            return
        # One less than before shows whether the registry knows ``n``.
        query = {"n": str(max(page_size - 1, 1)), "last": last}
        request = replace(request, url=url.with_query(query))
    raise AnswerMalformed(f"{request.about} has more than {PAGES} pages, which are not read")


class _Rest:
    """Finds out whether there is more of a list that the registry does not link."""

    def __init__(self, page_size: int, about: str) -> None:
        self._page_size = page_size
        self._about = about
        self._seen: set[str] = set()
        #: The list's first name, and how many the first answer had.
        self._first: str | None = None
        self._first_length = 0
        #: Of the newest answer.
        self._last: str | None = None
        self._greatest: str | None = None
        self._length = 0
        self._is_new = False
        self._starts_over = False
        #: An answer to ``last`` brought what comes after it.
        self._continues = False
        #: Names that were sent as ``last``.
        self.asked: set[str] = set()

    def take(self, found: list[Any]) -> list[Any]:
        """Note an answer; returns what of it is new."""
        new = [one for one in found if _known_as(one) not in self._seen]
        self._seen.update(map(_known_as, new))
        names = [one for one in found if _may_be_sent(one)]
        if not self.asked:
            self._first, self._first_length = next(iter(names), None), len(found)
        self._length, self._is_new = len(found), bool(new)
        self._starts_over = bool(names) and (
            names[0] == self._first or len(found) >= len(self._seen)
        )
        if self.asked and new and not self._starts_over:
            self._continues = True
        if names:
            self._last, self._greatest = names[-1], max(names)
        return new

    def cursor(self) -> str | None:
        """The name to ask for what comes after it; ``None``: the list is complete.

        Raises:
            AnswerMalformed: the registry cuts the list off and does not continue it.
        """
        if not self.asked:
            if self._length < min(LEAST_PAGE, self._page_size):
                return None
        elif not self._is_new and self._starts_over:
            # It does not know ``last``, or starts again after the last name, as crane's registry
            # does. If it knows only ``n``, the list was cut off.
            cut = 2 < self._page_size == self._first_length == self._length + 1
            if cut and not self._continues:
                raise AnswerMalformed(
                    f"{self._about} are cut off after {self._first_length} names: the registry "
                    "neither links a next page nor continues after a name"
                )
            return None
        # Pages that are not sorted continue after their last name, or after the greatest.
        for name in (self._last, self._greatest):
            if name is not None and name not in self.asked:
                self.asked.add(name)
                return name
        return None


def _may_be_sent(entry: object) -> bool:
    """Whether a name can stand in a query; it need not be valid as a name."""
    return isinstance(entry, str) and len(entry) <= LONGEST_CURSOR and entry.isprintable()


def _known_as(entry: object) -> str:
    return entry if isinstance(entry, str) else f"\0{entry!r:.200}"


def _list(data: dict[str, Any], key: str, about: str, *, first: bool) -> list[Any]:
    """The list in a page. An empty one may be ``null``, or absent where nothing else is there.

    ``first``: no name came before.
    """
    found = data.get(key)
    if data.get("errors"):
        raise AnswerMalformed(f"{about}: the answer tells errors, so that names may be missing")
    if isinstance(found, list):
        return found
    if found is None and (key in data or (first and data.keys() <= {"name"})):
        return []
    raise AnswerMalformed(f"{about}: the answer has no list of {key}")
