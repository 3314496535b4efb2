"""How the running Transship was installed, and the command that adds an extra to it.

No version is published, so no command may name ``transship`` alone: a package index would answer
with a package of somebody else. Each command repeats the source that the installer recorded.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

_NAME: Final = "transship"
#: Each extra, and a library that it installs and the others do not.
_LIBRARIES: Final = {"worker": "docker", "gcp": "google-auth", "azure": "azure-identity"}


def extra_hint(extra: str) -> str:
    """The command that adds an extra to the running installation, or a sentence if unknown."""
    return Installation.running().extra_hint(extra)


def library_hint(library: str) -> str:
    """The command that adds a library to the running installation, or a sentence if unknown."""
    return Installation.running().library_hint(library)


@dataclass(frozen=True)
class Installation:
    """An environment with Transship in it."""

    #: The root of the environment: ``sys.prefix``.
    prefix: Path
    python: str
    #: The folders in which its distributions are looked for: ``sys.path``.
    path: Sequence[str]

    @classmethod
    def running(cls) -> Installation:
        """The installation that runs this code."""
        return cls(Path(sys.prefix), sys.executable, tuple(sys.path))

    def extra_hint(self, extra: str) -> str:
        """How to add an extra to this installation."""
        command = self._install([*self._extras(), extra], [])
        return command or f"reinstall Transship in {self.prefix} with the extra '{extra}'"

    def library_hint(self, library: str) -> str:
        """How to add a library to this installation."""
        command: str | None
        if self._is_pipx:
            command = _shell(["pipx", "inject", *self._pipx_options, self.prefix.name, library])
        elif self._is_uv_tool:
            command = self._install(self._extras(), [library])
        else:
            command = _shell([*self._pip_install, library])
        return command or f"install {library} in {self.prefix}"

    def _install(self, extras: Iterable[str], libraries: Sequence[str]) -> str | None:
        """The command that installs the same source again; ``None`` when it is unknown."""
        source = self._source(list(dict.fromkeys(extras)))
        if source is None:
            return None
        if self._is_pipx:
            # The environment, and what was injected into it, stays.
            suffix = self.prefix.name.removeprefix(_NAME)
            options = [*self._pipx_options, *(["--suffix", suffix] if suffix else [])]
            return _shell(["pipx", "install", "--force", *options, *source])
        if self._is_uv_tool:
            # The environment is made anew, with nothing but what is named.
            others = self._uv_others()
            if others is None:
                return None
            others += [word for library in libraries for word in ("--with", library)]
            return _shell(["uv", "tool", "install", "--force", *source, *others])
        return _shell([*self._pip_install, *source])

    # --- what it was installed with ---------------------------------------------------------

    @property
    def _is_pipx(self) -> bool:
        return (self.prefix / "pipx_metadata.json").is_file()

    @property
    def _is_uv_tool(self) -> bool:
        return (self.prefix / "uv-receipt.toml").is_file()

    @property
    def _pipx_options(self) -> list[str]:
        shared = Path(os.environ.get("PIPX_GLOBAL_HOME") or "/opt/pipx")
        return ["--global"] if self.prefix.is_relative_to(shared) else []

    @property
    def _pip_install(self) -> list[str]:
        if self._distribution("pip"):
            return [self.python, "-m", "pip", "install"]
        # uv makes environments without pip.
        return ["uv", "pip", "install", "--python", self.python]

    def _uv_others(self) -> list[str] | None:
        """The options that repeat ``--with``; ``None`` when the receipt cannot be repeated."""
        try:
            receipt = tomllib.loads((self.prefix / "uv-receipt.toml").read_text("utf-8"))
            requirements = receipt["tool"]["requirements"]
            return [w for r in requirements if r["name"] != _NAME for w in _with(r)]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    # --- what it was installed from ---------------------------------------------------------

    def _extras(self) -> list[str]:
        return [extra for extra, library in _LIBRARIES.items() if self._distribution(library)]

    def _source(self, extras: list[str]) -> list[str] | None:
        """The words that name the source, with extras; ``None`` when it is unknown.

        The installer wrote it down: PEP 610, "Recording the Direct URL Origin of installed
        distributions".
        """
        distribution = self._distribution(_NAME)
        origin = distribution.read_text("direct_url.json") if distribution else None
        try:
            record = json.loads(origin or "")
            brackets = f"[{','.join(extras)}]" if extras else ""
            source = _local(record, brackets) or _remote(record, brackets)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        # A command with escapes in it could not be pasted.
        return source if source and all(map(str.isprintable, source)) else None

    def _distribution(self, name: str) -> metadata.Distribution | None:
        return next(iter(metadata.distributions(name=name, path=list(self.path))), None)


def _local(record: dict[str, Any], brackets: str) -> list[str] | None:
    """A folder or a wheel that is still there."""
    parts = urlsplit(record["url"])
    if parts.scheme != "file" or "vcs_info" in record:
        return None
    path = Path(url2pathname(parts.path))
    editable = ["--editable"] if record.get("dir_info", {}).get("editable") else []
    return [*editable, f"{path}{brackets}"] if path.exists() else None


def _remote(record: dict[str, Any], brackets: str) -> list[str] | None:
    """A repository or an archive, by an address without the login that it may hold."""
    parts = urlsplit(record["url"])
    login, _, host = parts.netloc.rpartition("@")
    if parts.scheme == "ssh" and login and ":" not in login:
        # A name alone is no secret here, and ssh needs it. With https it may be a token.
        host = f"{login}@{host}"
    if parts.query or (parts.scheme == "file" and "vcs_info" not in record):
        # A query may hold a signature, without which the archive is not given.
        return None
    url = f"{parts.scheme}://{host}{parts.path}"
    if "vcs_info" in record:
        vcs = record["vcs_info"]
        url = f"{vcs['vcs']}+{url}@{vcs.get('requested_revision') or vcs['commit_id']}"
    subdirectory = record.get("subdirectory")
    fragment = f"#subdirectory={subdirectory}" if subdirectory else ""
    return [f"{_NAME}{brackets} @ {url}{fragment}"]


def _with(requirement: dict[str, Any]) -> Iterator[str]:
    """The option for one requirement of uv's receipt; ``KeyError`` for a kind that is unknown."""
    kinds = set(requirement) - {"name"}
    if kinds <= {"extras", "specifier"}:
        extras = f"[{','.join(requirement['extras'])}]" if "extras" in kinds else ""
        yield from ("--with", requirement["name"] + extras + requirement.get("specifier", ""))
    elif kinds == {"editable"}:
        yield from ("--with-editable", requirement["editable"])
    elif kinds == {"directory"}:
        yield from ("--with", requirement["directory"])
    else:
        yield from ("--with", requirement["path"])


def _shell(words: Sequence[str]) -> str:
    """A command as a person would type it."""
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)
