"""Where registries may lead a job, where accounts have rights.

A registry that an account may copy from, or to, may be its own. It cannot have the worker, which
trusted networks may let in without a login, read another registry of the catalog, or write there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from yarl import URL

from transship.model.rights import Rights, Verb
from transship_worker.catalog.model import Components
from transship_worker.flavors.base import BaseContainerRegistry
from transship_worker.flavors.layout import LayoutRegistry
from transship_worker.oci.led import LedRule

#: What follows a repository's name in a path of the API (distribution-spec 1.1, "Endpoints").
_AFTER_NAME: Final = frozenset({"blobs", "manifests", "tags", "referrers"})
#: Registry entries by name.
_Entries = Iterable[tuple[str, BaseContainerRegistry]]
_READS: Final = frozenset({"GET", "HEAD"})


def led_rule(rights: Rights, components: Components) -> LedRule | None:
    """Where registries may lead a job of this account; ``None``: wherever their addresses allow.

    No further than the account's rights, where the place is a registry of the catalog by its host
    and port.
    """
    if rights.everything:
        return None

    def problem(method: str, url: URL) -> str | None:
        entries = [
            (entry, component)
            for entry, component in components.registries.items()
            if not isinstance(component, LayoutRegistry) and _is_at(component, url)
        ]
        if not entries:
            return None
        name = _repository_of(url, entries)
        if name is None:
            return f"{url.host} is asked for nothing of a repository"
        covering = list(_covering_path(name, entries))
        verbs = (Verb.COPY_FROM,) if method in _READS else (Verb.COPY_TO, Verb.PUSH)
        if not covering or any(rights.may(verb, *one) for verb in verbs for one in covering):
            return None
        verb, (entry, repository) = verbs[0], covering[0]
        return f"{rights.name} may not {verb.text} {entry}/{repository}; {rights.describe(verb)}"

    return problem


def _is_at(component: BaseContainerRegistry, url: URL) -> bool:
    return any((url.host, url.port) == (base.host, base.port) for base in _bases(component))


def _bases(component: BaseContainerRegistry) -> tuple[URL, ...]:
    """Where a registry is reached, and where its name alone says that it is."""
    endpoint = component.registry_endpoint
    return (*endpoint.bases, *replace(endpoint, endpoint=None).bases)


def _repository_of(url: URL, entries: _Entries) -> str | None:
    """The repository that a URL of an API is about; ``None``: it is about none."""
    parts = [part for part in url.path.split("/") if part]
    if "." in parts or ".." in parts:
        return None
    for _, component in entries:
        for base in _bases(component):
            head = [*(part for part in base.path.split("/") if part), "v2"]
            if parts[: len(head)] != head:
                continue
            rest = parts[len(head) :]
            # A repository, and even a tag, may be called `blobs`.
            ends = [at for at, part in enumerate(rest[:-1]) if at and part in _AFTER_NAME]
            if ends:
                return "/".join(rest[: ends[-1]])
    return None


def _covering_path(name: str, entries: _Entries) -> Iterator[tuple[str, str]]:
    for entry, component in entries:
        path = component.registry_uri.path
        if not path:
            yield entry, name
        elif name == path or name.startswith(f"{path}/"):
            yield entry, name.removeprefix(path).removeprefix("/")
