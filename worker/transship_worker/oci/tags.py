"""Tags of a repository, and repositories of a registry, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from yarl import URL

from transship.errors import AnswerMalformed, ImageNotFound, RepositoryMissing
from transship_worker.oci.challenge import catalog
from transship_worker.oci.client import RegistryClient, Repository, Request
from transship_worker.oci.names import is_repository, is_tag
from transship_worker.oci.paging import pages

#: How many are asked for at once; a registry may give fewer. ACR's and ECR's pages are smaller.
PAGE_SIZE: Final = 1_000
#: The largest page. distribution 2.8 does not page tags: it gives all of them. Unit: bytes.
PAGE_LIMIT: Final = 8 * 1024 * 1024
#: Names of one list that are read: who plans keeps them in memory.
NAMES_LIMIT: Final = 1_000_000


async def tags(repository: Repository, *, page_size: int = PAGE_SIZE) -> AsyncIterator[list[str]]:
    """The tags of a repository, a page at a time, in the registry's order.

    Raises:
        RepositoryMissing: there is no such repository.
        AnswerMalformed: what came is no list of tags, or a list without end.
        PushError: the registry refuses, or does not answer.
    """
    about = f"the tags of {repository}"
    url = (await repository.url("tags/list")).with_query(n=page_size)
    request = Request("GET", url, repository.scopes, about)
    try:
        async for page in _lists(repository.client, request, "tags", is_tag):
            yield page
    except ImageNotFound as error:
        raise RepositoryMissing(error.message) from error.__cause__


async def repositories(
    client: RegistryClient, *, page_size: int = PAGE_SIZE
) -> AsyncIterator[list[str]]:
    """The repositories of a registry that lists them (``_catalog``), a page at a time.

    Docker Hub, GHCR and others refuse.

    Raises:
        AnswerMalformed: what came is no list of names, or a list without end.
        PushError: the registry refuses, or does not answer.
    """
    about = f"the catalogue of {client.endpoint.registry}"
    url = (await client.base()).join(URL("v2/_catalog")).with_query(n=page_size)
    request = Request("GET", url, frozenset({catalog()}), about)
    async for page in _lists(client, request, "repositories", is_repository):
        yield page


async def _lists(
    client: RegistryClient, request: Request, key: str, good: Callable[[str], bool]
) -> AsyncIterator[list[str]]:
    """The names of each page, until they are too many."""
    count = 0
    async for page in pages(client, request, limit=PAGE_LIMIT):
        names = _names(page.data, key, good, request.about)
        count += len(names)
        if count > NAMES_LIMIT:
            raise AnswerMalformed(
                f"{request.about} are more than {NAMES_LIMIT} names, which are not read"
            )
        yield names


def _names(data: dict[str, Any], key: str, good: Callable[[str], bool], about: str) -> list[str]:
    # An empty list comes as null, too.
    found = data.get(key) or []
    if not isinstance(found, list):
        raise AnswerMalformed(f"{about}: {key} is not a list")
    for name in found:
        if not isinstance(name, str) or not good(name):
            raise AnswerMalformed(f"{about} name {str(name)[:80]!a}, which cannot be asked for")
    return found
