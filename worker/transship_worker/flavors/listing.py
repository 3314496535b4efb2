"""The repositories of a component: what a pattern in a migration is compared with."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from transship.errors import (
    AnswerMalformed,
    CannotList,
    Denied,
    ImageNotFound,
    PushRejected,
    RepositoryMissing,
)
from transship_worker.flavors.base import BaseContainerRegistry
from transship_worker.oci.names import is_repository

if TYPE_CHECKING:
    from transship_worker.oci.client import RegistryClient


async def repositories(
    component: BaseContainerRegistry, client: RegistryClient
) -> AsyncIterator[list[str]]:
    """The component's repositories, a page at a time, as they follow its URI's path.

    Those outside of the path are left out; so is one that is the path itself, which no pattern
    can name. A page may be empty. ``client`` asks the registry with the component's login.

    Raises:
        CannotList: the flavor, or its registry, lists none.
        PushError: the registry or its vendor refuses, or does not answer.
    """
    path = component.registry_uri.path
    with _foreign(component):
        pages = component.list_repositories(client)
    try:
        while True:
            with _foreign(component):
                page = await anext(pages, None)
            if page is None:
                return
            names = [_relative(full, path, component.name) for full in page]
            yield [name for name in names if name]
    finally:
        if isinstance(pages, AsyncGenerator):
            await pages.aclose()


async def catalog(
    component: BaseContainerRegistry, client: RegistryClient
) -> AsyncIterator[list[str]]:
    """The repositories that a registry's ``_catalog`` names, in full.

    Raises:
        CannotList: the registry has no such list.
        PushError: it refuses, or does not answer.
    """
    from transship_worker.oci import tags

    hint = "if this registry lists none, write the repositories' names out"
    try:
        async for page in tags.repositories(client, page_size=component.PAGE_SIZE):
            yield page
    except (ImageNotFound, RepositoryMissing, PushRejected) as error:
        raise CannotList(
            f"{component.registry_uri.registry} does not list its repositories; write their names "
            f"out ({error.message})"
        ) from error
    except Denied as error:
        raise Denied(f"{error.message}; {hint}") from error


def _relative(full: object, path: str, component: str) -> str:
    """A name as it follows the path; empty: it does not lie under it."""
    if not isinstance(full, str) or not is_repository(full):
        raise AnswerMalformed(
            f"component {component!r} lists a repository {str(full)[:80]!a}, which cannot be "
            "asked for"
        )
    if not path:
        return full
    return full.removeprefix(f"{path}/") if full.startswith(f"{path}/") else ""


def _foreign(component: BaseContainerRegistry) -> AbstractContextManager[None]:
    about = f"flavor {component.FLAVOR!r} failed over listing repositories: "
    return component.own_code(CannotList, about)
