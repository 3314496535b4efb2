"""The repositories of a component: what a pattern in a migration is compared with."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Self

from transship.errors import (
    CannotList,
    Denied,
    ImageNotFound,
    PushRejected,
    RepositoryMissing,
)
from transship_worker.flavors.base import BaseContainerRegistry
from transship_worker.oci.names import Skipped, Warn, is_repository

if TYPE_CHECKING:
    from transship_worker.oci.client import RegistryClient


async def repositories(
    component: BaseContainerRegistry, client: RegistryClient, warn: Warn | None = None
) -> AsyncIterator[list[str]]:
    """The component's repositories, a page at a time, as they follow its URI's path.

    Those outside of the path are left out; so is one that is the path itself, which no pattern
    can name. A page may be empty, and a name may come twice. ``client`` asks the registry with
    the component's login. ``warn`` hears, once each, how many names were skipped since no
    repository can be called so, that the list is empty, and that it may not be complete.

    Raises:
        CannotList: the flavor, or its registry, lists none.
        PushError: the registry or its vendor refuses, or does not answer.
    """
    path = component.registry_uri.path
    skipped, listed, below = Skipped("repository name", is_repository), 0, 0
    with _foreign(component):
        pages = component.list_repositories(client)
    if isinstance(pages, Catalog):
        pages.warn = warn
    try:
        while (page := await _next_page(component, pages)) is not None:
            names = [name for name in (_relative(one, path) for one in skipped.names(page)) if name]
            listed, below = listed + len(page), below + len(names)
            yield names
    finally:
        close = getattr(pages, "aclose", None)
        if close is not None:
            await close()
    if warn is None:
        return
    if skipped.count:
        warn(skipped.message(lambda text: component.redacted(client.speaker.clean(text))))
    if not listed:
        warn(_empty(component, client))
    elif not below:
        warn(f"none of the {listed:,} listed repositories lies under {component.uri}")


def catalog(component: BaseContainerRegistry, client: RegistryClient) -> Catalog:
    """The repositories that a registry's ``_catalog`` names, in full."""
    return Catalog(component, client)


class Catalog:
    """Pages of a registry's ``_catalog`` as they come, with what cannot be a name.

    Iterating raises ``CannotList`` if the registry has no such list, and ``PushError`` if it
    refuses or does not answer.
    """

    def __init__(self, component: BaseContainerRegistry, client: RegistryClient) -> None:
        self._component = component
        self._pages = self._read(client)
        #: Hears that the list may not be complete; without it, that is an error.
        self.warn: Warn | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[str]:
        return await anext(self._pages)

    async def aclose(self) -> None:
        """Read no more."""
        await self._pages.aclose()

    async def _read(self, client: RegistryClient) -> AsyncGenerator[list[Any], None]:
        from transship_worker.oci import tags

        component = self._component
        hint = "if this registry lists none, write the repositories' names out"
        size = component.PAGE_SIZE
        try:
            async for page in tags.catalog_entries(client, page_size=size, warn=self.warn):
                yield page
        except (ImageNotFound, RepositoryMissing, PushRejected) as error:
            raise CannotList(
                f"{component.registry_uri.registry} does not list its repositories; write their "
                f"names out ({error.message})"
            ) from error
        except Denied as error:
            raise Denied(f"{error.message}; {hint}") from error


async def _next_page(
    component: BaseContainerRegistry, pages: AsyncIterator[list[str]]
) -> list[str] | None:
    """The next page of a flavor, whose code may be anybody's; ``None``: there is none."""
    with _foreign(component):
        page: object = await anext(pages, None)
        if page is not None and not isinstance(page, list | tuple):
            raise TypeError(f"a page is a list of names, not {type(page).__name__}")
        return None if page is None else list(page)


def _relative(full: str, path: str) -> str:
    """A name as it follows the path; empty: it does not lie under it."""
    if not path:
        return full
    return full.removeprefix(f"{path}/") if full.startswith(f"{path}/") else ""


def _empty(component: BaseContainerRegistry, client: RegistryClient) -> str:
    """What an empty list may mean: ACR answers so to a login without the right to list."""
    registry = component.registry_uri.registry
    if client.speaker.credentials is None:
        return f"{registry} lists no repositories to a request without a login"
    return (
        f"{registry} lists no repositories for the component's login, which may lack the right to "
        "list them; write their names out if it has some"
    )


def _foreign(component: BaseContainerRegistry) -> AbstractContextManager[None]:
    about = f"flavor {component.FLAVOR!r} failed over listing repositories: "
    return component.own_code(CannotList, about)
