"""docs/architecture.md: its picture is current, and what it names exists."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.repository import ROOT
from tools import architecture

PAGE = ROOT / "docs" / "architecture.md"
TEXT = PAGE.read_text("utf-8")
#: The folder of each package.
FOLDERS = {"transship_config": "config", "transship": "producer", "transship_worker": "worker"}
LISTS = ["The path of a push", "The path of a copy", "The path of a planned row"]

MODULES = sorted(
    set(re.findall(r"`((?:transship|transship_config|transship_worker)\.[\w.]+)`", TEXT))
)
PATHS = sorted(set(re.findall(r"`([\w./-]+/[\w./-]*|[\w-]+\.toml)`", TEXT)))


def steps(heading: str) -> list[str]:
    """The numbered items below a heading."""
    section = TEXT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^\d+\. (.+)$", section, re.M)


def is_module(name: str) -> bool:
    package, *parts = name.split(".")
    path = ROOT.joinpath(FOLDERS[package], package, *parts)
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def test_the_picture_is_current() -> None:
    assert architecture.problem() is None


def test_a_stale_picture_is_reported_with_the_command_that_writes_it(tmp_path: Path) -> None:
    folder = ROOT / "docs" / "images"
    assert architecture.problem(folder / "none.svg") == (
        "docs/images/none.svg is stale; write it with: python -m tools.architecture"
    )


def test_the_picture_changes_with_the_contracts() -> None:
    packages = architecture.packages()
    worker = packages[0]
    moved = replace(worker, floors=worker.floors[::-1])

    assert architecture.picture([moved, *packages[1:]]) != architecture.picture(packages)


def test_the_picture_has_every_module_of_the_three_packages() -> None:
    for package in architecture.packages():
        drawn = {module.name for floor in package.floors for module in floor}
        folder = ROOT / package.folder
        modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
        packages = {path.parent.name for path in folder.glob("*/__init__.py")}
        assert drawn == modules | packages


@pytest.mark.parametrize("heading", LISTS)
def test_each_step_of_a_path_begins_with_a_module(heading: str) -> None:
    found = steps(heading)

    assert 8 <= len(found) <= 15
    named = [re.match(r"`([\w.]+)` ", step) for step in found]
    assert [step for step, match in zip(found, named, strict=True) if match is None] == []
    assert [match[1] for match in named if match and not is_module(match[1])] == []


@pytest.mark.parametrize("name", MODULES)
def test_each_module_that_the_page_names_exists(name: str) -> None:
    assert is_module(name)


@pytest.mark.parametrize("path", PATHS)
def test_each_path_that_the_page_names_exists(path: str) -> None:
    assert (ROOT / path).exists()


PAGES = [*(ROOT / "docs").glob("*.md"), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md"))]


@pytest.mark.parametrize("page", sorted(PAGES), ids=lambda page: page.name)
def test_each_source_file_that_a_document_names_exists(page: Path) -> None:
    named = re.findall(r"`([\w*-][\w*/-]*/[\w*-]+\.(?:py|lua))`", page.read_text("utf-8"))
    roots = [ROOT, *(ROOT / folder / package for package, folder in FOLDERS.items())]

    assert [name for name in named if not any(list(root.glob(name)) for root in roots)] == []


def test_the_page_names_modules_and_paths() -> None:
    assert len(MODULES) > 30
    assert len(PATHS) > 25
