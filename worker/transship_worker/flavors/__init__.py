"""Flavors: one class for each kind of registry, imported when it is first used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Final

from transship.installation import extra_hint
from transship_config.errors import UsageError
from transship_config.text import did_you_mean
from transship_worker.flavors.sdk import installed

if TYPE_CHECKING:
    from transship_worker.flavors.base import BaseContainerRegistry


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """A flavor that comes with Transship."""

    #: ``module:Class``.
    target: str
    #: Module of the SDK that it needs, and the extra that brings it; empty: none.
    needs: str = ""
    extra: str = ""
    #: ``built-in``: works with the worker as it is; ``extra``: needs an extra of its own.
    integration: str = "built-in"


BUILT_IN: Final[Mapping[str, BuiltIn]] = {
    "default": BuiltIn("transship_worker.flavors.default:DefaultRegistry"),
    "dockerhub": BuiltIn("transship_worker.flavors.dockerhub:DockerHubRegistry"),
    "gcp": BuiltIn("transship_worker.flavors.gcp:GcpRegistry", "google.auth", "gcp", "extra"),
    "azure": BuiltIn(
        "transship_worker.flavors.azure:AzureRegistry", "azure.identity", "azure", "extra"
    ),
    "aws": BuiltIn("transship_worker.flavors.aws:AwsRegistry", "boto3", "worker"),
    "layout": BuiltIn("transship_worker.flavors.layout:LayoutRegistry"),
}


@dataclass(frozen=True, slots=True)
class FlavorRow:
    """One line of ``transship registry flavor list``."""

    flavor: str
    #: The class's full name.
    source: str
    #: ``built-in``, ``extra`` or ``custom``.
    integration: str
    usable: bool
    #: What would make it usable; empty when it is.
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Flavors:
    """The flavors of one catalogue: the built-in ones and its own."""

    custom: Mapping[str, type[BaseContainerRegistry]] = field(default_factory=dict)
    #: The custom ones' source paths, as the catalogue has them.
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted({*BUILT_IN, *self.custom})

    def find(self, name: str) -> type[BaseContainerRegistry]:
        """The class of a flavor, imported now; its SDK is not.

        Raises:
            UsageError: there is no such flavor; names the nearest.
        """
        if name in self.custom:
            return self.custom[name]
        if name in BUILT_IN:
            return built_in(name)
        raise UsageError(f"no flavor {name!r};{did_you_mean(name, self.names)}")

    def rows(self) -> list[FlavorRow]:
        """Every flavor, the built-in ones first."""
        rows = []
        for name, entry in BUILT_IN.items():
            usable = not entry.needs or installed(entry.needs)
            hint = "" if usable else extra_hint(entry.extra)
            source = entry.target.replace(":", ".")
            rows.append(FlavorRow(name, source, entry.integration, usable, hint))
        rows += [
            FlavorRow(name, source, "custom", usable=True)
            for name, source in sorted(self.sources.items())
        ]
        return rows


def built_in(name: str) -> type[BaseContainerRegistry]:
    """The class of a built-in flavor; ``KeyError`` for another name."""
    module, _, attribute = BUILT_IN[name].target.partition(":")
    found: type[BaseContainerRegistry] = getattr(import_module(module), attribute)
    return found
