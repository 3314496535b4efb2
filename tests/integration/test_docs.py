"""What the documents show works as it stands there: the custom flavor; accounts as shipped."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.repository import ROOT
from tests.support.servers.redis_accounts import shipped

DOCS = ROOT / "docs"


def block(page: str, kind: str, number: int = 0) -> str:
    """A fenced block of a page."""
    found = re.findall(rf"^```{kind}\n(.*?)^```$", (DOCS / page).read_text("utf-8"), re.M | re.S)
    return str(found[number])


@pytest.fixture
def acme(tmp_path: Path) -> Path:
    """The folder of the documented flavor."""
    folder = tmp_path / "acme"
    package = folder / "acme_flavors"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "named.py").write_text(block("custom-flavors.md", "python"))
    (folder / "test_named.py").write_text(block("custom-flavors.md", "python", 1))
    return folder


def test_the_documented_flavor_passes_its_documented_test(acme: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_named.py"],
        cwd=acme,
        env=os.environ | {"PYTHONPATH": str(acme)},
        capture_output=True,
        text=True,
    )

    assert run.returncode == 0, run.stdout
    assert "4 passed" in run.stdout


def test_the_documented_commands_register_and_use_the_flavor(acme: Path, tmp_path: Path) -> None:
    commands = block("custom-flavors.md", "sh").replace("/opt/acme", str(acme))
    home = tmp_path / "home"
    home.mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TRANSSHIP_", "XDG_"))}
    program = f"transship() {{ '{sys.executable}' -m transship \"$@\"; }}\nset -e\n"

    run = subprocess.run(
        ["sh", "-c", program + commands],
        cwd=home,
        env=kept | {"HOME": str(home)},
        capture_output=True,
        text=True,
    )

    assert run.returncode == 0, run.stderr
    assert re.search(
        r"^acme-named +acme_flavors.named.NamedRegistry +custom +yes$", run.stdout, re.M
    )
    assert "vision/train:42 can be pushed to acme" in run.stdout
    written = next(home.rglob("catalog.yaml")).read_text()
    documented = block("custom-flavors.md", "yaml")
    for line in ("- acme_flavors.named.NamedRegistry", "flavor: acme-named"):
        assert line in documented
        assert line in written


def test_the_documented_account_is_the_shipped_one() -> None:
    documented = block("operations.md", "acl")
    assert documented.startswith("user producer ")
    assert f"\n{documented}" in shipped()
