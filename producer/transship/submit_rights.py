"""Refuses at submit what no live worker would let this account do.

Workers decide: what a client cannot know is submitted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transship.errors import RightMissing, UnknownComponent
from transship.model.references import RegistryUri
from transship.model.rights import Rights, all_rights, refusal
from transship_config.errors import UsageError

if TYPE_CHECKING:
    from transship.model.components import Fleet
    from transship.model.requests import Request


@dataclass(frozen=True, slots=True)
class SubmitRights:
    """What the catalogs of all live workers let this account do."""

    fleet: Fleet
    #: For each version of the catalog's section; empty: a worker has none, or it is not known.
    rights: tuple[Rights, ...] = ()

    @classmethod
    def of(cls, fleet: Fleet, read: Callable[[Sequence[str]], dict[str, Rights]]) -> SubmitRights:
        """Read this account's rights, where every live worker has the section."""
        versions = fleet.rights_versions
        if not versions or "" in versions:
            return cls(fleet)
        found = read(versions)
        complete = len(found) == len(versions)
        return cls(fleet, tuple(found[one] for one in versions) if complete else ())

    def check(self, requests: Sequence[Request]) -> None:
        """Refuse what no worker would accept.

        Raises:
            RightMissing: naming what was asked, and what the account may do.
        """
        if not self.rights:
            return
        for request in requests:
            problems = [self._problem(request, rights) for rights in self.rights]
            if all(problems):
                raise RightMissing(problems[0] or "")

    def _problem(self, request: Request, rights: Rights) -> str | None:
        other = request.on_behalf_of
        if other is not None:
            # The rights of the other account are not for this one to read.
            found = rights.on_behalf_of(other.account, all_rights(other.account), other.scope)
            if found is None:
                return rights.refusal_to_act_for(other.account)
            rights = found
        try:
            return refusal(request.accesses, rights, self._uri)
        except UsageError:
            # Nothing is known of the component: workers may.
            return None

    def _uri(self, entry: str) -> RegistryUri:
        try:
            return RegistryUri.parse(self.fleet.component(entry).uri)
        except UnknownComponent:
            return RegistryUri.parse(entry)
