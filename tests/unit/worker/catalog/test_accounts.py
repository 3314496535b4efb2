"""The catalogue's sections for accounts: what they give, and every mistake with its line."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from transship.errors import CatalogError
from transship.model.rights import Limits, Verb
from transship_worker.catalog import Catalog, Components
from transship_worker.catalog.edit import remove_component
from transship_worker.catalog.file import Place

REGISTRIES = """\
registries:
  prod: {flavor: default, uri: registry.example.com}
  hub: {flavor: default, uri: docker.io}
anonymous_sources: [quay.io]
"""
SECTIONS = """\
accounts:
  team-a:
    push: ["prod/ml/**"]
    copy_from: [hub, "prod/ml/**", quay.io/org/**]
    copy_to: ["prod/ml/**"]
    limits: {queued: 5000, running: 16}
    weight: 2
    labels: {team: a}
  team-b:
  ci-gateway: {acts_for: [team-a, team-b]}
groups:
  readers: {members: [team-a, team-b], copy_from: [hub]}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "catalog.yaml"


def read(file: Path, text: str) -> Components:
    file.write_text(REGISTRIES + dedent(text))
    return Catalog.open(file).current()


def mistakes(file: Path, text: str) -> list[str]:
    """What is wrong with sections; lines are counted from their first one."""
    with pytest.raises(CatalogError) as caught:
        read(file, text)
    before = REGISTRIES.count("\n")
    found = []
    for message in caught.value.message.splitlines():
        line, _, problem = message.removeprefix(f"{file}:").partition(":")
        found.append(f"{int(line) - before}:{problem}")
    return found


def test_the_section_gives_rights_to_the_accounts_it_lists_and_to_no_other(file: Path) -> None:
    components = read(file, SECTIONS)
    team_a = components.rights_of("team-a")
    assert team_a.may(Verb.PUSH, "prod", "ml/train")
    assert not team_a.may(Verb.PUSH, "prod", "web")
    assert team_a.may(Verb.COPY_FROM, "quay.io", "org/tool")
    assert (team_a.limits, team_a.weight, team_a.labels) == (Limits(5000, 16), 2, {"team": "a"})
    team_b = components.rights_of("team-b")
    assert team_b.may(Verb.COPY_FROM, "hub", "library/alpine")
    assert not team_b.may(Verb.COPY_FROM, "quay.io", "org/tool")
    assert (team_b.limits, team_b.weight) == (Limits(), 1)
    gateway = components.rights_of("ci-gateway")
    assert gateway.acts_for == {"team-a", "team-b"}
    assert not any(gateway.may_use(verb, "prod") for verb in Verb)
    for stranger in ("default", "team-c", ""):
        rights = components.rights_of(stranger)
        assert not rights.listed
        assert not any(rights.may_use(verb, "prod") for verb in Verb)


def test_without_the_section_everything_is_allowed(file: Path) -> None:
    components = read(file, "")
    assert components.rights_of("anybody").everything
    assert components.rights_version == ""


def test_an_empty_mapping_allows_nothing_to_anybody(file: Path) -> None:
    components = read(file, "accounts: {}\n")
    assert not components.rights_of("default").everything
    assert components.rights_version


def test_the_version_is_that_of_the_rights_and_not_of_the_text(file: Path) -> None:
    first = read(file, SECTIONS).rights_version
    assert read(file, "# a comment\n" + SECTIONS).rights_version == first
    assert read(file, SECTIONS.replace("weight: 2", "weight: 3")).rights_version != first
    assert read(
        file, SECTIONS.replace("copy_from: [hub]}", "copy_to: [hub]}")
    ).rights_version not in {
        "",
        first,
    }


def test_every_mistake_is_told_with_its_line(file: Path) -> None:
    assert mistakes(
        file,
        """\
        accounts:
          team-a:
            push: [prd/ml, "prod/ml**"]
            copy_from:
              - quay.io
              - 7
            copy_to: [quay.io]
            limits: {queued: 0, runing: 1}
            weight: 1.5
            labels: {team: 1, "a b": x}
            acts_for: [team-a, team-z]
          "team a": {}
          team-b: [prod]
          team-c: {pushes: [prod]}
        groups:
          one: {members: [team-x]}
          two: {copy_from: hub}
        """,
    ) == [
        (
            "3: accounts.team-a.push: 'prod/ml**': `**` is a path segment of its own; write `*` in "
            "'ml**'"
        ),
        "3: accounts.team-a.push: no registry entry 'prd'; did you mean 'prod'? known: hub, prod",
        (
            "6: accounts.team-a.copy_from: 7 is not a pattern of at most 510 characters; write for "
            "example prod/ml/**"
        ),
        "7: accounts.team-a.copy_to: no registry entry 'quay.io'; known: hub, prod",
        "8: accounts.team-a.limits.queued must be a whole number from 1 to 10000000",
        (
            "8: accounts.team-a.limits: unknown key 'runing'; did you mean 'running'? known: "
            "queued, running"
        ),
        "9: accounts.team-a.weight must be a whole number from 1 to 1000",
        (
            "10: accounts.team-a.labels: 'a b': String should match pattern "
            "'^[A-Za-z0-9][A-Za-z0-9_./-]{0,62}$'"
        ),
        "10: accounts.team-a.labels: 'team': Input should be a valid string",
        (
            "11: accounts.team-a.acts_for: no account 'team-z'; did you mean 'team-c'? known: team "
            "a, team-a, team-b, team-c"
        ),
        "11: team-a does not act for itself; remove it from acts_for",
        (
            "12: an account is named by up to 32 letters, digits, '_' and '-', like its Redis "
            "account; 'team a' is not"
        ),
        "13: accounts.team-b must be a mapping; write for example {}",
        (
            "14: accounts.team-c: unknown key 'pushes'; did you mean 'push'? known: push, "
            "copy_from, copy_to, limits, weight, labels, acts_for"
        ),
        (
            "16: groups.one.members: no account 'team-x'; did you mean 'team-c'? known: team a, "
            "team-a, team-b, team-c"
        ),
        (
            "17: groups.two.copy_from must be a list of at most 256 patterns; write for example "
            "copy_from: [prod/ml/**]"
        ),
        "17: groups.two: members is missing; write members: [ACCOUNT]",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "accounts:\n",
            (
                "1: accounts must be a mapping of names to rights; to allow everything, remove "
                "accounts:"
            ),
        ),
        (
            "accounts: [a]\n",
            (
                "1: accounts must be a mapping of names to rights; to allow everything, remove "
                "accounts:"
            ),
        ),
        ("groups: {}\n", "1: groups needs accounts:"),
        ("accounts: {a: {}}\ngroups: [a]\n", "2: groups must be a mapping of names to rights"),
        (
            "accounts: {7: {}}\n",
            (
                "1: an account is named by up to 32 letters, digits, '_' and '-', like its Redis "
                "account; 7 is not (put it in quotes)"
            ),
        ),
    ],
)
def test_a_section_that_is_no_mapping_never_allows_everything(
    file: Path, text: str, problem: str
) -> None:
    assert mistakes(file, text) == [problem]


def test_a_mistake_in_an_entry_makes_no_other_of_naming_it(file: Path) -> None:
    file.write_text(
        "registries:\n  prod: {flavor: defult, uri: registry.example.com}\n"
        "accounts:\n  team-a: {push: [prod]}\n"
    )
    with pytest.raises(CatalogError) as caught:
        Catalog.open(file)
    assert len(caught.value.message.splitlines()) == 1


def test_an_entry_that_rights_name_is_not_removed(file: Path) -> None:
    read(file, SECTIONS)
    before = file.read_text()
    with pytest.raises(CatalogError) as caught:
        remove_component(Place(file), "hub")
    assert "accounts.team-a.copy_from: no registry entry or anonymous source 'hub'" in str(
        caught.value
    )
    assert file.read_text() == before
