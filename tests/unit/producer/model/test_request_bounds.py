"""Whatever is stored as a request costs a worker little, and is refused in one short line."""

from __future__ import annotations

import json
from typing import Any

import pydantic
import pytest

from benchmarks.parse import measured, read
from benchmarks.stored_requests import corpus
from transship.model.copy_request import CopyRequest
from transship.model.migration.budget import MOST_CHARACTERS
from transship.model.migration.mistakes import SpecError
from transship.model.migration.plan import MOST_TAGS, PlanRow
from transship.model.migration.request import MigrationRequest, Mode
from transship.model.migration.specification import Spec
from transship.model.push_request import PushRequest
from transship.model.request_fields import request_problem
from transship.model.requests import (
    MIGRATION_HEAD,
    check_stored,
    glimpse,
    newer,
    parse_request,
)
from transship.model.stored_text import REQUEST, SHORT_SPECIFICATION, SPECIFICATION, problem_of
from transship_config.errors import UsageError

PUSH = {"image": "registry.example.com/ml/train:1", "registry": "prod"}


def problem(body: str | bytes) -> str:
    with pytest.raises(pydantic.ValidationError) as caught:
        parse_request(body)
    return str(request_problem(caught.value))


def specification(*rules: dict[str, Any]) -> str:
    spec = {"version": 1, "name": "x", "rules": rules}
    body = {"kind": "migration", "version": 1, "mode": "run", "name": "x", "spec": spec}
    return json.dumps(body, separators=(",", ":"))


def rule(**more: Any) -> dict[str, Any]:
    places = {"from": {"registry": "a", "repositories": ["a"]}, "to": {"registry": "b"}}
    return places | more


@pytest.mark.parametrize(("name", "body"), list(corpus()))
def test_the_dearest_requests_are_told_of_in_one_short_line(name: str, body: bytes) -> None:
    told = read(body)
    assert told.isprintable(), name
    assert len(told) < 700, name
    assert len(json.dumps(glimpse(body))) < 2_000, name


def test_many_unknown_keys_cost_little() -> None:
    # Each of them is an error of pydantic's; a body of 9 MB took 35 s and 5 GB before.
    body = json.dumps(PUSH | {f"key{number}": 0 for number in range(400_000)})
    cost = measured("unknown keys", body.encode(), 3)
    assert "bytes; a request has 65536 at most" in cost.result
    assert cost.seconds < 0.05
    assert cost.memory < 40 << 20  # the text itself, and once more as bytes


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (" " * REQUEST.longest + "{}", "65538 bytes; a request has 65536 at most"),
        (json.dumps(PUSH | {"labels": [[]] * 3_000}), "more than 2000 values; a request has fewer"),
        (json.dumps(PUSH | {"x" * 9_000: 0}), "a text of more than 8192 bytes"),
        (json.dumps(PUSH)[:-1] + f',"deadline_s":{"9" * 3_000}}}', "a number of more than 64"),
        ("[" * 1_500 + "]" * 1_500, "values nested more than 16 deep, or no JSON"),
        (json.dumps({"kind": "copy"}) + " " * (1 << 17), "a request has 65536 at most"),
        (specification(rule()) + " " * (1 << 20), "a specification has 1048576 at most"),
        (MIGRATION_HEAD + "[" * 4_000, "values nested more than 16 deep, or no JSON"),
        (json.dumps(PUSH | {"\udc80" * 2_000: 0}), "a text of more than 8192 bytes"),
    ],
)
def test_a_request_beyond_its_bounds_is_refused_before_it_is_parsed(body: str, what: str) -> None:
    assert what in problem(body)
    assert newer(body) is None


def test_escapes_hide_no_quotes_and_no_brackets() -> None:
    hidden = json.dumps(PUSH | {"labels": {"a": '\\"[[[[{{{{,,,,' * 17}}) + " " * 3_000
    assert problem_of(hidden, REQUEST) is None
    assert parse_request(hidden).facts()["labels"] == {"a": '\\"[[[[{{{{,,,,' * 17}


def test_the_longest_copy_of_a_plan_has_its_place() -> None:
    digest = "sha256:" + "a" * 64
    name = "r.example.com/" + "a" * 240
    tags = tuple(f"{number:0128d}" for number in range(MOST_TAGS + 1))
    platforms = [f"windows/amd64:{'1.' * 50}{number + 10}" for number in range(64)]
    request = CopyRequest.model_validate(
        {
            "image": f"{name}:{tags[0]}",
            "registry": "r" * 63,
            "source": f"{name}@{digest}",
            "source_registry": "s" * 63,
            "more_tags": tags[1:],
            "platforms": platforms,
            "migration": "0" * 20 + "-" + "a" * 32,
            "size": 1 << 60,
        }
    )
    assert parse_request(request.to_stored()) == request


def test_a_specification_of_thousands_of_repositories_has_its_place() -> None:
    names = [f"library/image-{number}" for number in range(10_000)]
    body = specification(rule(**{"from": {"registry": "a", "repositories": names}}))
    found = parse_request(body)
    assert isinstance(found, MigrationRequest)
    assert parse_request(found.to_stored()) == found
    assert len(body) > SHORT_SPECIFICATION.longest


def test_equal_expressions_are_read_once_and_count_once() -> None:
    tags = {"include": ["^v[0-9]+"], "semver": ">=1.2,<3"}
    body = specification(*(rule(tags=tags) for _ in range(1_000)))
    found = parse_request(body)
    assert isinstance(found, MigrationRequest)
    assert found.spec is not None
    one, other = found.spec.rules[0].tags, found.spec.rules[999].tags
    assert one.include[0] is other.include[0]
    assert one.semver is other.semver


def test_expressions_that_cost_too_much_together_are_refused_also_for_the_producer() -> None:
    rules = [rule(tags={"include": [f"{'a|' * 120}{number:08d}"]}) for number in range(300)]
    with pytest.raises(SpecError, match=f"more than {MOST_CHARACTERS} characters"):
        Spec.parse({"version": 1, "name": "x", "rules": rules})
    rules = [rule(tags={"include": ["a{0,400}b{90}" + str(number)]}) for number in range(300)]
    with pytest.raises(SpecError, match="repeat too much"):
        Spec.parse({"version": 1, "name": "x", "rules": rules})
    assert "the first one: " in problem(specification(*rules))


def test_a_row_beyond_its_bounds_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(SpecError, match="values nested more than 16 deep"):
        PlanRow.parse("[" * 1_500 + "]" * 1_500)
    with pytest.raises(SpecError, match="more than 2000 values"):
        PlanRow.parse(json.dumps({f"key{number}": 0 for number in range(2_100)}))


def test_the_bounds_of_a_specification_are_those_of_a_body_that_begins_as_one() -> None:
    behind = (
        '{"version":1,"kind":"migration","mode":"run","name":"x","rows":1' + " " * (1 << 17) + "}"
    )
    assert "a request has 65536 at most" in problem(behind)
    first = MIGRATION_HEAD + ',"version":1,"mode":"run","name":"x","rows":1' + " " * (1 << 17) + "}"
    assert parse_request(first).queue == "plan.*"
    assert len(first) < SPECIFICATION.longest


def test_what_no_worker_would_read_is_not_written() -> None:
    wide = "\N{GRINNING FACE}" * 256
    labels = {f"label-{number}": wide for number in range(32)}
    request = PushRequest.model_validate(PUSH | {"labels": labels})
    with pytest.raises(UsageError, match="bytes; a request has 65536 at most"):
        check_stored(request.to_stored())
    check_stored(PushRequest.model_validate(PUSH).to_stored())


def test_a_specification_that_costs_too_much_is_not_written() -> None:
    rules = [rule(tags={"include": [f"{'a|' * 120}{number:08d}"]}) for number in range(50)]
    spec = Spec.parse({"version": 1, "name": "x", "rules": rules})
    request = MigrationRequest(mode=Mode.RUN, name="x", spec=spec)
    with pytest.raises(UsageError, match="more than 4096 characters; split it"):
        check_stored(request.to_stored())


def test_of_a_long_migration_people_see_its_name() -> None:
    names = [f"library/image-{number}" for number in range(9_000)]
    body = specification(rule(**{"from": {"registry": "a", "repositories": names}}))
    seen = {"kind": "migration", "image": "x", "registry": "", "bulk": True}
    assert glimpse(body[: REQUEST.longest + 1]) == seen
