"""What ``transship accounts acl`` prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.servers.redis_accounts import PASSWORDS, TEAMS, made, shipped, with_teams
from transship.cli import main

CATALOG = """\
registries:
  prod: {flavor: default, uri: registry.example.com}
accounts:
"""


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    return tmp_path / "catalog.yaml"


def rules(users: str) -> dict[str, str]:
    """Rules of each account, as Redis loads them."""
    words = dict.fromkeys((*PASSWORDS, "ci", *TEAMS), "x")
    lines = made(users, words).stdout.splitlines()
    return {line.split()[1]: line.rpartition(" #")[0] for line in lines}


def test_the_printed_rules_are_those_of_the_shipped_file(
    catalog: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog.write_text(CATALOG + "".join(f"  {team}: {{push: [prod]}}\n" for team in TEAMS))

    assert main(["accounts", "acl", "--catalog", str(catalog)]) == 0

    out, err = capsys.readouterr()
    assert err == ""
    expected = rules(with_teams())
    assert rules(out) == {team: expected[team] for team in TEAMS}
    # Both files together are a whole one: the examples are off, and left out.
    assert rules(f"{shipped()}\n{out}").keys() == {"default", *PASSWORDS, *TEAMS}


def test_an_account_of_the_shipped_file_that_submits_nothing_is_not_printed(
    catalog: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog.write_text(f"{CATALOG}  monitor: {{push: [prod]}}\n  team-a: {{}}\n")

    assert main(["accounts", "acl", "--catalog", str(catalog)]) == 0

    out, err = capsys.readouterr()
    assert rules(out).keys() == {"team-a"}
    assert err.startswith("transship: warning: account monitor is not printed")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (CATALOG.removesuffix("accounts:\n"), "has no section accounts"),
        (f"{CATALOG}  a b: {{}}\n", "an account is named by up to 32 letters"),
        (None, "catalog.yaml"),
    ],
)
def test_what_has_no_accounts_is_refused_in_one_line(
    catalog: Path, capsys: pytest.CaptureFixture[str], text: str | None, says: str
) -> None:
    if text is not None:
        catalog.write_text(text)

    assert main(["accounts", "acl", "--catalog", str(catalog)]) == 2

    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert err.count("\n") == 1
