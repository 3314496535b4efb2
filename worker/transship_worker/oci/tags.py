"""Tags of a repository, and repositories of a registry, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from yarl import URL

from transship.errors import ImageNotFound, RepositoryMissing
from transship_worker.oci.auth import LoginUse
from transship_worker.oci.challenge import catalog
from transship_worker.oci.client import RegistryClient, Repository
from transship_worker.oci.exchange import Request
from transship_worker.oci.listing import entries
from transship_worker.oci.names import Skipped, Warn, is_repository, is_tag

#: How many are asked for at once; a registry may give fewer. ACR's and ECR's pages are smaller.
PAGE_SIZE: Final = 1_000


async def tags(
    repository: Repository, *, page_size: int = PAGE_SIZE, warn: Warn | None = None
) -> AsyncIterator[list[str]]:
    """The tags of a repository, a page at a time, in the registry's order; some may come twice.

    ``warn`` hears, once each, how many names were skipped since no tag can be called so, and
    that the list may not be complete.

    Raises:
        RepositoryMissing: there is no such repository.
        AnswerMalformed: what came is no list of tags, or a list without end.
        PushError: the registry refuses, or does not answer.
    """
    client = repository.client
    request = Request(
        "GET",
        await repository.url("tags/list"),
        repository.scopes,
        f"the tags of {repository}",
        login=LoginUse.FIRST,
    )
    skipped = Skipped("tag", is_tag)
    try:
        async for page in entries(client, request, "tags", page_size=page_size, warn=warn):
            yield skipped.names(page)
    except ImageNotFound as error:
        raise RepositoryMissing(error.message) from error.__cause__
    if warn is not None and skipped.count:
        warn(skipped.message(client.speaker.clean))


async def repositories(
    client: RegistryClient, *, page_size: int = PAGE_SIZE, warn: Warn | None = None
) -> AsyncIterator[list[str]]:
    """The repositories of a registry that lists them (``_catalog``), a page at a time.

    Docker Hub, GHCR and others refuse. See ``tags`` for ``warn``.

    Raises:
        AnswerMalformed: what came is no list of names, or a list without end.
        PushError: the registry refuses, or does not answer.
    """
    skipped = Skipped("repository name", is_repository)
    async for page in catalog_entries(client, page_size=page_size, warn=warn):
        yield skipped.names(page)
    if warn is not None and skipped.count:
        warn(skipped.message(client.speaker.clean))


async def catalog_entries(
    client: RegistryClient, *, page_size: int = PAGE_SIZE, warn: Warn | None = None
) -> AsyncIterator[list[Any]]:
    """``repositories`` with what cannot be a name still among them."""
    request = Request(
        "GET",
        (await client.base()).join(URL("v2/_catalog")),
        frozenset({catalog()}),
        f"the catalog of {client.endpoint.registry}",
        login=LoginUse.FIRST,
    )
    async for page in entries(client, request, "repositories", page_size=page_size, warn=warn):
        yield page
