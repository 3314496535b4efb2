"""Specifications and plans as files: which of them a text is, and where its mistakes are."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.ledger.played_migration import SPEC, SPEC_YAML, digest, row
from transship.model.jobs import JobId
from transship.model.migration.mistakes import Mistake, SpecError
from transship.specification_files import LARGEST_SPEC, PlanLines, SpecText, read_file, read_stream
from transship_config.errors import UsageError

PLAN = JobId.new()


def read(text: str | bytes) -> SpecText | PlanLines:
    raw = text.encode() if isinstance(text, str) else text
    return read_stream(io.BytesIO(raw), "f.yaml")


def mistakes(text: str | bytes) -> list[str]:
    """The lines of the error that a text gives, in the end."""

    def whole() -> None:
        found = read(text)
        assert isinstance(found, PlanLines), "a specification without mistakes"
        list(found.rows)

    with pytest.raises(UsageError) as caught:
        whole()
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    "text",
    [
        SPEC_YAML,
        f"# a comment\n\n---\n{SPEC_YAML}",
        f"\ufeff{SPEC_YAML}",
        SPEC_YAML.replace("\n", "\r\n"),
        json.dumps(SPEC),
        json.dumps(SPEC, indent=2),
        json.dumps(SPEC, indent="\t"),
        f"\n\n{json.dumps(SPEC)}",
    ],
    ids=["yaml", "comment", "mark", "crlf", "json", "indented", "tabs", "late"],
)
def test_a_specification_is_yaml_or_json(text: str) -> None:
    found = read(text)

    assert isinstance(found, SpecText)
    assert found.spec.name == "hub-to-prod"
    assert str(found.spec.rules[0].target.repository) == "mirror/{repository}"


def test_a_plan_is_known_by_its_first_row() -> None:
    rows = [row(PLAN, number) for number in range(1, 4)]
    text = "\n\n".join(one.to_json() for one in rows)
    for plan in (text, f"\ufeff{text}", f"\n \n{text}\n\n"):
        found = read(plan)
        assert isinstance(found, PlanLines)
        assert list(found.rows) == rows


@pytest.mark.parametrize(
    ("name", "title"),
    [("hub-to-prod.jsonl", "hub-to-prod"), ("my plan (2).txt", "my-plan-2-"), ("--.jsonl", "plan")],
)
def test_a_plan_is_called_as_its_file(tmp_path: Path, name: str, title: str) -> None:
    file = tmp_path / name
    file.write_text(row(PLAN, 1).to_json())

    found = read_file(file)
    assert isinstance(found, PlanLines)
    assert (found.title, found.name) == (title, str(file))
    assert len(list(found.rows)) == 1


YAML_MISTAKES = """\
version: 1

name: hub to prod
rules:
  - from: {registry: hub, repositories: acme/cat}
    to:
      registry: prod
      repository: {repository}
      tag: 1.20
    tags:
      semvr: ^1
      latest: 0
  - from: {registry: hub, repositories: ["*/cat"]}
"""


def test_every_mistake_has_its_line_and_they_come_in_order() -> None:
    found = mistakes(YAML_MISTAKES)

    assert [line.split(": ")[:2] for line in found] == [
        ["f.yaml:3", "name"],
        ["f.yaml:5", "rules[0].from.repositories"],
        ["f.yaml:8", "rules[0].to.repository"],
        ["f.yaml:9", "rules[0].to.tag"],
        ["f.yaml:11", "rules[0].tags.semvr"],
        ["f.yaml:12", "rules[0].tags.latest"],
        ["f.yaml:13", "rules[1].to"],
    ]
    assert found[2].endswith("a mapping is not a text; write it in quotes")
    assert found[3].endswith("1.2 is not a text; write it in quotes")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "f.yaml:1: nothing cannot be used; a specification is a mapping with the keys"),
        ("[1, 2]", "f.yaml:1: a list cannot be used; a specification is a mapping"),
        ("rules:\n\t- x", "f.yaml:2: not valid YAML: found character '\\t'"),
        ("\n\nversion: 1\nversion: 1", "f.yaml:4: 'version' is there twice, first in line 3"),
        ('{"version": 1, "version": 1}', "f.yaml:1: 'version' is there twice"),
        ('{\n\t"version": 1,\n\t"nam": 2\n}', "f.yaml:3: nam: is not known here; did you mean"),
        ('{"version": 1,', "f.yaml:1: not valid YAML: "),
        ("a: &a [*a]", "f.yaml:1: the anchor '&a' holds itself; take its alias out"),
        (b"version: 1\nname: \xff", "f.yaml:2: not UTF-8 text"),
        (b"x" * (LARGEST_SPEC + 1), f"f.yaml: larger than {LARGEST_SPEC} bytes"),
        ("[" * 10_000, "f.yaml:1: not valid YAML: RecursionError"),
        ('{"a":' * 10_000, "f.yaml:1: not valid YAML: RecursionError"),
    ],
    ids=range(12),
)
def test_what_is_no_specification_is_said_in_a_line(text: str | bytes, says: str) -> None:
    found = mistakes(text)

    assert any(line.startswith(says) for line in found), found


def test_a_mistake_that_is_found_later_has_its_line_too() -> None:
    found = read(SPEC_YAML)
    assert isinstance(found, SpecText)

    error = found.error([Mistake(("rules", 0, "to", "registry"), "no component 'prod'")])
    assert str(error) == "f.yaml:5: rules[0].to.registry: no component 'prod'"


def test_every_bad_row_has_its_line_and_no_row_follows_one() -> None:
    good = row(PLAN, 1).to_json()
    text = f"{good}\nnonsense\n\n{good}\n" + good.replace('"copy"', '"cpy"')
    found = read(text)
    assert isinstance(found, PlanLines)

    taken: list[object] = []
    with pytest.raises(SpecError) as caught:
        taken.extend(found.rows)
    assert len(taken) <= 1
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("f.yaml:2: 'nonsense' cannot be used; invalid json")
    assert (
        lines[1] == "f.yaml:5: action: 'cpy' cannot be used; write one of copy, tag, skip, conflict"
    )


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b'{"version":1,"migration":"x"', "f.yaml:1: "),
        (b'{"action":"copy"}', "f.yaml:1: migration: is missing"),
        (b'{"migration":"\xff"}', "f.yaml:1: not UTF-8 text"),
        (b'{"version":1,"migration":"' + b"x" * 1_100_000 + b'"}', "longer than 262144 characters"),
    ],
    ids=["cut off", "incomplete", "foul", "long"],
)
def test_a_bad_first_row_is_still_one_of_a_plan(line: bytes, says: str) -> None:
    assert says in mistakes(line)[0]


def test_two_rows_that_contradict_each_other_are_a_mistake() -> None:
    first = row(PLAN, 1)
    other = row(PLAN, 1, source={"registry": "hub", "repository": "a", "digest": digest(2)})

    (line,) = mistakes(f"{first.to_json()}\n{other.to_json()}")
    assert line.startswith("f.yaml:2: another row puts sha256:000000000000… at prod/mirror/")
    assert line.endswith("keep one of the two")


def test_a_file_with_very_many_mistakes_is_not_read_to_its_end() -> None:
    class Endless(io.BytesIO):
        """A fake file that has no end."""

        lines = 0

        def readline(self, size: int | None = -1, /) -> bytes:
            self.lines += 1
            return b'{"version":1,"migration":"x"}\n'

    stream = Endless()
    found = read_stream(stream, "f")
    assert isinstance(found, PlanLines)
    with pytest.raises(SpecError, match=r"and \d+ more"):
        list(found.rows)
    assert stream.lines < 100


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent: no such file or directory"):
        read_file(tmp_path / "absent")
    with pytest.raises(UsageError, match=r"is a directory"):
        read_file(tmp_path)
    with pytest.raises(UsageError, match="is no name of a file"):
        read_file("a\0b")


def test_a_specification_in_json_and_a_plan_need_no_yaml() -> None:
    script = (
        "import io, sys; from transship.specification_files import read_stream\n"
        f"read_stream(io.BytesIO({json.dumps(SPEC).encode()!r}), 'x')\n"
        f"list(read_stream(io.BytesIO({row(PLAN, 1).to_json().encode()!r}), 'x').rows)\n"
        "print('ruamel' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("False\n", "")
