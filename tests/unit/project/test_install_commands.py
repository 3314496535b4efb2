"""No version is published: a package index would answer the bare name with somebody's package."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tests.support.repository import ROOT

#: An installer, and after its options the bare name; a path, a wheel or ``@ URL`` is no bare name.
BARE = re.compile(
    r"\b(?:pip3?|pipx|uv(?:\s+pip|\s+tool)?|uvx)\s+(?:install|add|run|wheel|download)\b"
    r"[^\n`|;&]*?[ '\"]transship(?:\[[^\]\n]*\])?(?!\s@\s)(?:[=<>~!][^\s]*)?(?=['\"`\s,.;)]|$)",
    re.M,
)
#: The extras with the name alone in quotation marks, whatever installs them.
QUOTED = re.compile(r"""(["'])transship\[[^\]\n]+\]\1""")
#: The names of a project's own extras in its ``all``; old changes.
FOLDERS = {".ci", "benchmarks", "config", "docs", "producer", "tests", "tools", "worker"}
EXCEPT = {"pyproject.toml", "CHANGELOG.md", "tests/unit/project/test_install_commands.py"}


def bare_names(content: str) -> list[str]:
    """The commands in a file that would install ``transship`` from an index."""
    return [match[0] for pattern in (BARE, QUOTED) for match in pattern.finditer(content)]


def files() -> Iterator[Path]:
    """The project's own files; git may not be installed where the tests run."""
    for top in sorted(ROOT.iterdir()):
        if top.is_file():
            yield top
        elif top.name in FOLDERS:
            found = (p for p in sorted(top.rglob("*")) if p.is_file())
            yield from (p for p in found if "__pycache__" not in p.parts)


def test_no_file_says_to_install_the_bare_name() -> None:
    assert {ROOT / "README.md", ROOT / "dev", ROOT / "docs" / "cli.md"} <= set(files())
    wrong = {}
    for file in files():
        name = str(file.relative_to(ROOT))
        if name in EXCEPT or "/corpus/" in name:
            continue
        commands = bare_names(file.read_bytes().decode("utf-8", "replace"))
        if commands:
            wrong[name] = commands
    assert wrong == {}


def test_a_bare_name_would_be_seen() -> None:
    wrong = [
        "pip install transship",
        "pip install -U transship==1.0",
        "`pip install transship`",
        "pip install 'transship[worker]'",
        "pipx install transship",
        "uv tool install --force transship",
        "python3 -m pip install transship.",
        'run: "transship[gcp]"',
    ]
    assert [command for command in wrong if not bare_names(command)] == []


def test_a_source_is_no_bare_name() -> None:
    right = [
        "pipx install .",
        "pipx install '.[worker]'",
        "pipx install git+https://git.example.com/transship@TAG",
        "pipx install 'transship[worker] @ git+https://git.example.com/transship@TAG'",
        "pipx install dist/transship-1.0-py3-none-any.whl",
        "pipx inject transship paramiko",
        "pip install . && transship --version",
    ]
    assert {command: bare_names(command) for command in right if bare_names(command)} == {}
