"""Platforms of images, as ``docker --platform`` writes them.

Names are normalised as containerd and Docker do it (containerd/platforms, ``database.go``):
``aarch64`` is ``arm64``, ``x86_64`` is ``amd64``, ``arm64/v8`` is ``arm64``, ``amd64/v1`` is
``amd64``, ``arm`` is ``arm/v7``. Operating systems and architectures are those of Go, which
the OCI image specification names for an image's ``os`` and ``architecture``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from transship.model.migration.mistakes import shown
from transship_config.text import did_you_mean

SYSTEMS: Final = (
    *("aix", "android", "darwin", "dragonfly", "freebsd", "illumos", "ios", "js", "linux"),
    *("netbsd", "openbsd", "plan9", "solaris", "wasi", "wasip1", "windows"),
)
ARCHITECTURES: Final = (
    *("386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle"),
    *("ppc64", "ppc64le", "riscv64", "s390x", "wasm"),
)
_SYSTEM_NAMES: Final = {"macos": "darwin"}
#: Other names of an architecture, with the variant that the name implies.
_ARCHITECTURE_NAMES: Final = {
    "i386": ("386", ""),
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}
#: The variant that an architecture has when none is written; it is written so, or left out.
_IMPLIED: Final = {("arm64", "v8"): "", ("amd64", "v1"): "", ("arm", ""): "v7"}

_VARIANT = re.compile(r"[a-z0-9]+(?:\.[a-z0-9]+)*", re.ASCII)
_OS_VERSION = re.compile(r"[0-9]+(?:\.[0-9]+)*", re.ASCII)
#: Characters of a platform.
LONGEST: Final = 128


@dataclass(frozen=True, slots=True)
class Platform:
    """An operating system and an architecture, normalised; ``str()`` writes it again."""

    os: str
    architecture: str
    variant: str = ""
    #: Windows: ``10.0.17763.1234``, or its beginning.
    os_version: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Read ``os/arch[/variant][:os.version]``.

        Raises:
            ValueError: it is written in another way, or there is no such system.
        """
        name, colon, version = text.partition(":")
        parts = name.split("/")
        if len(text) > LONGEST or len(parts) not in {2, 3} or not all(parts):
            raise ValueError(f"{shown(text)} is no platform; write os/arch, such as linux/amd64")
        if colon and not _OS_VERSION.fullmatch(version):
            raise ValueError(
                f"{shown(text)} has a bad version of the system; write numbers with dots, such as "
                "windows/amd64:10.0.17763"
            )
        found = cls.of(*parts, os_version=version)
        if found.os not in SYSTEMS:
            raise ValueError(
                f"{shown(text)}: {parts[0]!r} is no operating system;"
                f"{did_you_mean(found.os, SYSTEMS)}"
            )
        if found.architecture not in ARCHITECTURES:
            raise ValueError(
                f"{shown(text)}: {parts[1]!r} is no architecture;"
                f"{did_you_mean(found.architecture, ARCHITECTURES)}"
            )
        if found.variant and not _VARIANT.fullmatch(found.variant):
            raise ValueError(f"{shown(text)} has a bad variant; write one such as v7")
        return found

    @classmethod
    def of(cls, os: str, architecture: str, variant: str = "", *, os_version: str = "") -> Platform:
        """The platform that a manifest's descriptor states, normalised; nothing is refused."""
        os, architecture, variant = os.lower(), architecture.lower(), variant.lower()
        os = _SYSTEM_NAMES.get(os, os)
        architecture, implied = _ARCHITECTURE_NAMES.get(architecture, (architecture, ""))
        variant = variant or implied
        if architecture in {"arm", "arm64"}:
            variant = f"v{variant}" if variant.isdigit() else variant
            variant = variant.removesuffix(".0")
        variant = _IMPLIED.get((architecture, variant), variant)
        return cls(os, architecture, variant, os_version)

    def matches(self, other: Platform) -> bool:
        """Whether ``other``, of an image, is what this one asks for.

        System, architecture and variant are equal: ``linux/arm/v7`` is not ``linux/arm/v6``,
        although it could run it. A version of the system is asked for from its beginning, in
        whole numbers; without one every version fits.
        """
        return (self.os, self.architecture, self.variant) == (
            other.os,
            other.architecture,
            other.variant,
        ) and (
            not self.os_version
            or other.os_version == self.os_version
            or other.os_version.startswith(f"{self.os_version}.")
        )

    def __str__(self) -> str:
        name = "/".join(filter(None, (self.os, self.architecture, self.variant)))
        return f"{name}:{self.os_version}" if self.os_version else name
