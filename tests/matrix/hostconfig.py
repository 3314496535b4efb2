"""The host's configuration of apt and pip, for a root that installs packages the same way.

It is read when a root is made and written into that root only: nothing of it is stored.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: How apt reaches a server, and what it requires of one; no hooks and no paths.
_APT_OPTIONS: Final = re.compile(
    r"Acquire::(http|https|ftp)\b|Acquire::(Check-|Retries|ForceIPv[46]|AllowInsecure)", re.I
)
#: The home folder of the user inside a root.
HOME: Final = "/home/newcomer"
_OPTIONS_FILE: Final = "/etc/apt/apt.conf.d/90host"
_PROXIES: Final = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
#: Copied as they are: names, and CA certificates that this machine trusts besides Debian's.
_FILES: Final = ("/etc/resolv.conf", "/etc/hosts", "/etc/apt/auth.conf")
_FOLDERS: Final = ("/etc/apt/auth.conf.d", "/usr/local/share/ca-certificates")


@dataclass(frozen=True, slots=True)
class HostConfig:
    """What a root needs to install packages as this machine does."""

    #: The adapted text of ``/etc/apt/sources.list``-style files, by path; empty: leave the root's.
    sources: Mapping[str, str]
    #: Lines for ``/etc/apt/apt.conf.d``.
    apt_options: str
    #: The first mirror of the sources, for debootstrap; ``None``: its default.
    mirror: str | None
    #: Files to copy: path on the host to path inside.
    files: Mapping[Path, str]
    #: Folders that the configuration of pip names, for a mount at the same path.
    folders: tuple[Path, ...]
    #: Variables of pip and of proxies.
    environment: Mapping[str, str]

    def write(self, root: Path) -> None:
        """Write it into a root."""
        if self.sources:
            (root / "etc/apt/sources.list").unlink(missing_ok=True)
        generated = {**self.sources, _OPTIONS_FILE: self.apt_options}
        for path, text in generated.items():
            _inside(root, path).write_text(text)
        for source, path in self.files.items():
            target = _inside(root, path)
            target.unlink(missing_ok=True)
            shutil.copy(source, target)
        for folder in self.folders:
            _inside(root, str(folder)).mkdir(parents=True, exist_ok=True)

    def erase(self, root: Path) -> None:
        """Delete what ``write`` wrote, for a root that is stored."""
        for path in [*self.sources, _OPTIONS_FILE, *self.files.values()]:
            _inside(root, path).unlink(missing_ok=True)


def read(suite: str) -> HostConfig:
    """Read this machine's configuration, with its sources of packages turned to ``suite``."""
    sources = dict(_apt_sources(suite))
    pip_files = dict(_pip_files())
    pip_environment = {k: v for k, v in os.environ.items() if k.startswith("PIP_")}
    texts = [*(path.read_text() for path in pip_files), *pip_environment.values()]
    named = {path for text in texts for path in existing_paths(text)}
    files = {path: str(path) for path in named if path.is_file()}
    files |= pip_files | dict(_system_files()) | dict(_keyrings(sources.values()))
    return HostConfig(
        sources=sources,
        apt_options=_apt_options(),
        mirror=mirror_of(sources.values(), suite),
        files=files,
        folders=tuple(sorted({_whole(path) for path in named if path.is_dir()})),
        environment={
            **{k: v for k, v in os.environ.items() if k.lower() in _PROXIES},
            **pip_environment,
        },
    )


def _inside(root: Path, path: str) -> Path:
    target = root / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


# --- apt -------------------------------------------------------------------------------------


def _codename() -> str | None:
    """This machine's release of Debian; ``None``: it is another system."""
    try:
        lines = Path("/etc/os-release").read_text().splitlines()
    except OSError:
        return None
    facts = {k: v.strip('"') for k, _, v in (line.partition("=") for line in lines)}
    return facts.get("VERSION_CODENAME") if facts.get("ID") == "debian" else None


def _apt_sources(suite: str) -> Iterator[tuple[str, str]]:
    """The host's sources that have its own release, for another release; path and text."""
    codename = _codename()
    if codename is None:
        return
    folder = Path("/etc/apt/sources.list.d")
    for path in [Path("/etc/apt/sources.list"), *sorted(folder.glob("*"))]:
        if not path.is_file() or path.suffix not in {".list", ".sources"}:
            continue
        lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        adapt = adapt_stanzas if path.suffix == ".sources" else adapt_lines
        text = adapt(lines, codename, suite)
        if text:
            yield str(path), text


def adapt_stanzas(lines: list[str], codename: str, suite: str) -> str:
    """The stanzas of a deb822 file that name ``codename``, for ``suite``."""
    stanzas = re.split(r"\n\s*\n", "\n".join(lines).strip())
    adapted = [_adapt(stanza, r"^Suites:.*$", codename, suite) for stanza in stanzas]
    return "".join(f"{stanza.strip()}\n\n" for stanza in adapted if stanza)


def adapt_lines(lines: list[str], codename: str, suite: str) -> str:
    """The lines of a ``sources.list`` that name ``codename``, for ``suite``."""
    suites = r"^deb(-src)?\s+(\[[^]]*\]\s+)?\S+\s+\S+"
    adapted = [_adapt(line, suites, codename, suite) for line in lines]
    return "".join(f"{line}\n" for line in adapted if line)


def _adapt(text: str, suites: str, codename: str, suite: str) -> str | None:
    """The text with the release replaced where it names suites; ``None``: it names others."""
    named = re.search(suites, text, re.MULTILINE)
    # A suite is the last word of what matched, or all words after "Suites:".
    own = re.compile(rf"(?<=\s){re.escape(codename)}(?=[-/\s]|$)")
    if named is None or not own.search(named[0]):
        return None
    return text[: named.start()] + own.sub(suite, named[0]) + text[named.end() :]


def mirror_of(texts: Iterable[str], suite: str) -> str | None:
    """The first address in these sources that has the suite itself."""
    for stanza in re.split(r"\n\s*\n", "\n\n".join(texts)):
        uri = re.search(r"^URIs:\s*(\S+)", stanza, re.MULTILINE)
        suites = re.search(r"^Suites:(.*)$", stanza, re.MULTILINE)
        if uri and suites and suite in suites[1].split():
            return uri[1]
        line = re.search(rf"^deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+{suite}\s", stanza, re.MULTILINE)
        if line:
            return line[1]
    return None


def _apt_options() -> str:
    if shutil.which("apt-config") is None:
        return ""
    dumped = subprocess.run(["apt-config", "dump"], check=True, capture_output=True, text=True)
    lines = [line for line in dumped.stdout.splitlines() if _APT_OPTIONS.match(line)]
    return "".join(f"{line}\n" for line in lines)


def _keyrings(texts: Iterable[str]) -> Iterator[tuple[Path, str]]:
    named = r"signed-by[:=]\s*(/[^\s\],]+)"
    for path in re.findall(named, "\n".join(texts), re.IGNORECASE):
        if Path(path).is_file():
            yield Path(path), path


# --- pip and the rest ------------------------------------------------------------------------


def _pip_files() -> Iterator[tuple[Path, str]]:
    """pip's configuration files: path on the host, path inside."""
    home = Path.home()
    named = os.environ.get("PIP_CONFIG_FILE", "")
    places = {Path(p): p for p in (named, "/etc/pip.conf", "/etc/xdg/pip/pip.conf") if p}
    for path in (".pip/pip.conf", ".config/pip/pip.conf"):
        places[home / path] = f"{HOME}/{path}"
    for source, path in places.items():
        if source.is_file() and str(source) != os.devnull:
            yield source, path


def existing_paths(text: str) -> Iterator[Path]:
    """Files and folders of this machine that a value names, also as ``file://`` URLs."""
    for word in re.findall(r"(?:file://)?(/[^\s,;'\"]*)", re.sub(r"https?://\S+", "", text)):
        path = Path(word)
        if path != Path("/") and path.exists():
            yield path


def _whole(folder: Path) -> Path:
    """The folder, or its parent where it is an index whose links lead to folders beside it."""
    return folder.parent if folder.name == "simple" else folder


def _system_files() -> Iterator[tuple[Path, str]]:
    for path in map(Path, _FILES):
        if path.is_file():
            yield path, str(path)
    for folder in map(Path, _FOLDERS):
        for file in sorted(folder.rglob("*")) if folder.is_dir() else []:
            if file.is_file():
                yield file, str(file)
