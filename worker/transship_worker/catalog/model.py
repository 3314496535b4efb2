"""From the catalogue's values to components: every mistake is found, not only the first."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from transship.errors import InvalidReference
from transship.model.components import PublicComponent, unknown_component
from transship.model.references import RegistryUri
from transship.model.rights import Rights, all_rights
from transship_config.errors import UsageError
from transship_config.names import NAME_PATTERN
from transship_config.text import did_you_mean
from transship_worker.catalog.accounts import accounts_of, version_of
from transship_worker.catalog.file import Document, Key, Mistake
from transship_worker.credentials.secret_sources import expanded
from transship_worker.flavors import Flavors
from transship_worker.flavors.base import BaseContainerRegistry

logger = logging.getLogger("transship.catalog")

_SECTIONS: Final = (
    *("registries", "flavors", "flavor_paths", "anonymous_sources", "accounts", "groups"),
)


@dataclass(frozen=True, slots=True)
class Components:
    """The components and flavors of one version of the catalogue."""

    registries: Mapping[str, BaseContainerRegistry] = field(default_factory=dict)
    flavors: Flavors = field(default_factory=Flavors)
    #: Where custom flavors are looked for, besides the installed packages.
    flavor_paths: tuple[Path, ...] = ()
    #: ``host[:port]`` of registries that may be read without a component, and then without a login.
    anonymous_sources: frozenset[str] = frozenset()
    #: What each account may do; ``None``: the catalogue has no section ``accounts``.
    accounts: Mapping[str, Rights] | None = None
    #: Equal for versions of the catalogue that give the same rights; empty: no such section.
    rights_version: str = ""

    @property
    def names(self) -> list[str]:
        """The components' names, sorted."""
        return sorted(self.registries)

    def registry(self, name: str) -> BaseContainerRegistry:
        """The component of this name.

        Raises:
            UnknownComponent: there is none; the message says what is near.
        """
        if name not in self.registries:
            raise unknown_component(name, self.registries)
        return self.registries[name]

    def rights_of(self, account: str) -> Rights:
        """What an account may do; everything where the catalogue has no section ``accounts``."""
        if self.accounts is None:
            return all_rights(account)
        return self.accounts.get(account) or Rights.none(account)

    def public(self) -> list[PublicComponent]:
        """What producers may know of them, sorted by name."""
        return [self.registries[name].public for name in self.names]


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one component, and under which of its keys."""

    keys: tuple[Key, ...]
    text: str


def build(document: Document) -> Components:
    """The components that a catalogue describes.

    Raises:
        CatalogError: all its mistakes, one a line.
    """
    data = document.data
    if not document.mistakes and data is not None and not isinstance(data, dict):
        document.mistakes.append(Mistake(1, "the catalogue must be a mapping with registries:"))
    if not isinstance(data, dict):
        if document.mistakes:
            raise document.error()
        return Components()
    for key in data:
        if key not in _SECTIONS:
            _mistake(document, (key,), f"unknown key {key!r};{did_you_mean(str(key), _SECTIONS)}")
    paths = tuple(_flavor_paths(document, data.get("flavor_paths")))
    flavors = _flavors(document, data.get("flavors"), paths)
    registries = dict(_registries(document, data.get("registries"), flavors))
    anonymous = frozenset(_anonymous_sources(document, data.get("anonymous_sources")))
    entries = _names(data.get("registries"))
    accounts = accounts_of(document, data, entries, anonymous)
    if document.mistakes:
        raise document.error()
    return Components(
        registries, flavors, paths, anonymous, accounts, rights_version=version_of(accounts)
    )


def component(
    name: object, options: object, flavors: Flavors, folder: Path
) -> BaseContainerRegistry | list[Problem]:
    """One component, or all that is wrong with it; relative paths are meant from ``folder``."""
    problems = []
    if not isinstance(name, str) or not re.fullmatch(NAME_PATTERN, name):
        problems.append(
            Problem(
                (),
                f"a component's name is up to 63 letters, digits, '_', '.' and '-'; {name!r} is not"
                + ("" if isinstance(name, str) else " (put it in quotes)"),
            )
        )
    if not isinstance(options, dict):
        text = "must be a mapping with flavor: and uri:, for example {flavor: default, uri: ...}"
        return [*problems, Problem((), text)]
    kind = _kind(options, flavors, problems)
    values = {key: value for key, value in options.items() if key not in {"flavor", "name"}}
    if "name" in options:
        problems.append(Problem(("name",), "a component's name is its key; leave name: out"))
    try:
        made = (kind or BaseContainerRegistry).model_validate(
            {**values, "name": name if not problems else "placeholder"}, context={"folder": folder}
        )
    except ValidationError as error:
        return [*problems, *_explained(error, kind)]
    except Exception as error:  # noqa: BLE001
        # The validators of a custom flavor are foreign code. Its message may quote a secret.
        frames = "".join(traceback.format_tb(error.__traceback__))
        logger.debug("validation of %r raised %s: %s", name, type(error).__name__, frames)
        text = f"flavor {options['flavor']!r} raised {type(error).__name__} when it was made"
        return [*problems, Problem(("flavor",), text)]
    problems.extend(_half_logins(made))
    return problems or made


def _kind(
    options: dict[Any, Any], flavors: Flavors, problems: list[Problem]
) -> type[BaseContainerRegistry] | None:
    """The flavor's class; without one, ``None`` and a problem more."""
    flavor = options.get("flavor")
    if flavor is None:
        problems.append(Problem((), f"flavor is missing; there are {', '.join(flavors.names)}"))
    elif not isinstance(flavor, str):
        problems.append(Problem(("flavor",), "flavor must be the name of a flavor"))
    else:
        try:
            return flavors.find(flavor)
        except UsageError as error:
            problems.append(Problem(("flavor",), error.message))
    return None


def _half_logins(made: BaseContainerRegistry) -> Iterator[Problem]:
    """A user name without a password, or the other way round.

    A flavor with credentials of its own has rules of its own for these two.
    """
    if type(made).credentials is not BaseContainerRegistry.credentials:
        return
    username, password = bool(made.username), made.password is not None
    if username and not password:
        yield Problem(
            ("username",), "username needs a password, for example password: {env: PASSWORD}"
        )
    if password and not username:
        yield Problem(("password",), "password needs a username")


def _explained(
    error: ValidationError, kind: type[BaseContainerRegistry] | None
) -> Iterator[Problem]:
    """pydantic's errors in our words; values are never shown.

    Without a known flavor only the options that every component has can be judged.
    """
    for detail in error.errors(include_url=False, include_input=True):
        keys = tuple(detail["loc"])
        option = ".".join(str(key) for key in keys)
        text = str(detail["msg"]).removeprefix("Value error, ")
        if detail["type"] == "missing":
            right = (kind or BaseContainerRegistry).URI_EXAMPLE
            example = f"; for example uri: {right}" if option == "uri" else ""
            text = f"{option} is missing{example}"
            keys = ()
        elif detail["type"] == "extra_forbidden":
            if kind is None:
                continue
            text = f"unknown option {option!r};{did_you_mean(option, option_names(kind))}"
        elif text.startswith("Input "):
            text = f"{option} {text.removeprefix('Input ')}"
            if detail["type"] == "string_type" and isinstance(detail["input"], int | float):
                text += "; put it in quotes"
        elif detail["type"] not in {"value_error", "assertion_error"}:
            text = f"{option}: {text}"
        yield Problem(keys, text)


def option_names(kind: type[BaseContainerRegistry]) -> list[str]:
    """The options that a flavor takes in the catalogue, sorted."""
    names = {field.alias or name for name, field in kind.model_fields.items()}
    return sorted(names - {"name"} | {"flavor"})


def _registries(
    document: Document, section: object, flavors: Flavors
) -> Iterator[tuple[str, BaseContainerRegistry]]:
    if section is None:
        return
    if not isinstance(section, dict):
        _mistake(document, ("registries",), "registries must be a mapping of names to components")
        return
    for name, options in section.items():
        made = component(name, options, flavors, document.path.parent)
        if isinstance(made, BaseContainerRegistry):
            yield name, made
            continue
        for problem in made:
            _mistake(document, ("registries", name, *problem.keys), f"{name}: {problem.text}")


def _names(section: object) -> list[str]:
    """Names of all entries: that one of them has mistakes makes no mistake of naming it."""
    return [name for name in section if isinstance(name, str)] if isinstance(section, dict) else []


def _flavors(document: Document, section: object, paths: tuple[Path, ...]) -> Flavors:
    custom: dict[str, type[BaseContainerRegistry]] = {}
    sources: dict[str, str] = {}
    for index, source in _texts(document, "flavors", section, "source paths of classes"):
        # Only a catalogue with custom flavors pays for the import machinery.
        from transship_worker.flavors.custom import load

        try:
            found = load(source, paths=paths, taken=custom)
        except UsageError as error:
            _mistake(document, ("flavors", index), error.message)
        else:
            custom[found.FLAVOR], sources[found.FLAVOR] = found, source
    return Flavors(custom, sources)


def _flavor_paths(document: Document, section: object) -> Iterator[Path]:
    for index, text in _texts(document, "flavor_paths", section, "folders"):
        path = document.path.parent / expanded(text)
        # A name may hold what no file system takes, such as a zero byte.
        with suppress(OSError, ValueError):
            if path.is_dir():
                yield path
                continue
        _mistake(document, ("flavor_paths", index), f"flavor_paths: {path} is not a folder")


def _anonymous_sources(document: Document, section: object) -> Iterator[str]:
    """Hosts, spelled as in the canonical name of an image."""
    for index, text in _texts(document, "anonymous_sources", section, "hosts"):
        if "@" in text:
            # Not shown: what stands before the @ may be a password.
            place = ("anonymous_sources", index)
            _mistake(document, place, "anonymous_sources: a host is written without a login")
            continue
        try:
            uri = RegistryUri.parse(text)
        except InvalidReference as error:
            problem = error.message
        else:
            if not uri.path:
                yield uri.registry
                continue
            problem = f"{text!r} is more than a host; write {uri.registry}"
        _mistake(document, ("anonymous_sources", index), f"anonymous_sources: {problem}")


def _texts(document: Document, key: str, section: object, what: str) -> Iterator[tuple[int, str]]:
    if section is None:
        return
    if not isinstance(section, list):
        _mistake(document, (key,), f"{key} must be a list of {what}")
        return
    for index, text in enumerate(section):
        if isinstance(text, str) and text:
            yield index, text
        else:
            _mistake(document, (key, index), f"{key} must be a list of {what}")


def _mistake(document: Document, keys: tuple[Any, ...], text: str) -> None:
    document.mistakes.append(Mistake(document.line(*keys), text))
