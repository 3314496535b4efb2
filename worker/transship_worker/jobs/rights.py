"""Whether the account of a job may have it done: asked before each claim."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from transship.errors import InvalidReference, NotAllowed, UnknownComponent
from transship.model.references import ImageReference
from transship.model.rights import Rights, Verb, refusal, repository_in

if TYPE_CHECKING:
    from transship.model.references import RegistryUri
    from transship.model.requests import Request
    from transship_worker.flavors.base import BaseContainerRegistry


class Accounts(Protocol):
    """Where the rights of accounts are known: one version of the worker's catalogue."""

    def rights_of(self, account: str) -> Rights:
        """What an account may do."""


def checked_rights(
    accounts: Accounts, account: str, request: Request, uri: Callable[[str], RegistryUri]
) -> Rights:
    """What the account of a request may do, once the request is covered by it.

    What is stored is untrusted: the request says on whose behalf it is made, and the account under
    whose keys it lies must be one that may say so. ``uri``: where the images of a component, or of
    a host without one, lie.

    Raises:
        NotAllowed: it is not covered; the message says what the account may do.
    """
    rights = rights_for(accounts, account, request)
    try:
        problem = refusal(request.accesses, rights, uri)
    except UnknownComponent as error:
        problem = error.message
    if problem is not None:
        raise NotAllowed(problem)
    return rights


def rights_for(accounts: Accounts, account: str, request: Request) -> Rights:
    """What the account may do with this request, whatever it asks for.

    Raises:
        NotAllowed: it may not act for the account that the request names.
    """
    acting, other = accounts.rights_of(account), request.on_behalf_of
    if other is None:
        return acting
    found = acting.on_behalf_of(other.account, accounts.rights_of(other.account), other.scope)
    if found is None:
        raise NotAllowed(acting.refusal_to_act_for(other.account))
    return found


class Catalog(Protocol):
    """Registry components, and the rights of all accounts: one version of the catalogue."""

    @property
    def registries(self) -> Mapping[str, BaseContainerRegistry]:
        """All components by name."""

    @property
    def accounts(self) -> Mapping[str, Rights] | None:
        """What each account may do; ``None``: everything."""


def writers_of(catalog: Catalog, target: str) -> frozenset[str] | None:
    """Accounts that may push or copy to a target, also on behalf of another; ``None``: all may.

    A job waits for jobs that were submitted before it for its target, and gives way to newer ones.
    Of an account that may not write there they do not count, whatever it puts before that target.
    """
    accounts = catalog.accounts
    if accounts is None:
        return None
    try:
        image = ImageReference.parse(target)
    except InvalidReference:
        return frozenset()
    places = [
        (entry, repository)
        for entry, component in catalog.registries.items()
        if (repository := repository_in(image, component.registry_uri)) is not None
    ]
    found = frozenset(
        name
        for name, rights in accounts.items()
        if any(rights.may(verb, *one) for verb in (Verb.PUSH, Verb.COPY_TO) for one in places)
    )
    return found | {name for name, rights in accounts.items() if rights.acts_for & found}
