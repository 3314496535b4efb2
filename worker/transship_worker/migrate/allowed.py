"""What of a migration its account may have done, repository by repository."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from transship.model.references import ImageReference, RegistryUri
from transship.model.rights import Access, Rights, Verb, refusal
from transship_config.errors import UsageError


@dataclass(frozen=True, slots=True)
class Allowed:
    """The rights of an account over repositories that are named as they follow a component's URI.

    ``place`` says where a component's repositories lie (``Sides.unified``).
    """

    rights: Rights
    place: Callable[[str], str]

    def problem(self, verb: Verb, registry: str, repository: str) -> str | None:
        """Why the account may not do so, in one line; ``None``: it may."""
        if self.rights.everything:
            return None
        uri = RegistryUri.parse(self.place(registry))
        try:
            # Parsed, since names on Docker Hub have a long form.
            image = ImageReference.parse(f"{uri}/{repository}")
        except UsageError as error:
            return error.message
        return refusal([Access(verb, registry, image)], self.rights, lambda _: uri)

    def readable(self, registry: str, repositories: list[str]) -> list[str]:
        """Those that the account may copy from; it learns no names of others."""
        if self.rights.everything:
            return repositories
        return [
            name for name in repositories if self.problem(Verb.COPY_FROM, registry, name) is None
        ]

    def reads_all(self, registry: str) -> bool:
        """Whether the account may copy from every repository of a component, as far as is known."""
        return self.rights.may_all(Verb.COPY_FROM, registry)
