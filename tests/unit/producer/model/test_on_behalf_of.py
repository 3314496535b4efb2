"""For whom a request is made: its forms, its bounds, and how requests carry it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from transship.model.copy_request import CopyRequest
from transship.model.migration.request import MigrationRequest
from transship.model.on_behalf_of import LONGEST_SUBJECT, MOST_PATTERNS, OnBehalfOf
from transship.model.push_request import PushRequest
from transship.model.requests import VERSIONS, parse_request
from transship.model.rights import Grants

SCOPED = {"account": "team-a", "subject": "ann@example.com", "scope": {"push": ["prod/ml/x"]}}
RequestType = type[PushRequest] | type[CopyRequest] | type[MigrationRequest]
REQUESTS: list[tuple[RequestType, dict[str, Any]]] = [
    (PushRequest, {"image": "prod.example.com/ml/a:1", "registry": "prod"}),
    (
        CopyRequest,
        {
            "image": "prod.example.com/ml/a:1",
            "registry": "prod",
            "source": "alpine:3",
            "source_registry": "hub",
        },
    ),
    (MigrationRequest, {"mode": "run", "name": "x", "rows": 1}),
]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("team-a", OnBehalfOf("team-a")),
        ("team-a/ann@example.com", OnBehalfOf("team-a", "ann@example.com")),
        ("team-a/org/repo", OnBehalfOf("team-a", "org/repo")),
        ({"account": "a", "subject": None, "scope": None}, OnBehalfOf("a")),
        ({"account": "a", "scope": {}}, OnBehalfOf("a", scope=Grants())),
        (
            SCOPED,
            OnBehalfOf("team-a", "ann@example.com", Grants.of({"push": ["prod/ml/x"]})),
        ),
    ],
)
def test_it_is_a_text_or_a_mapping(value: object, expected: OnBehalfOf) -> None:
    found = OnBehalfOf.parse(value)
    assert found == expected
    assert OnBehalfOf.parse(found.as_json()) == expected


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("", "account must be the name of an account"),
        ("team a", "account must be the name of an account"),
        ("a" * 33, "account must be the name of an account"),
        ("a\n", "account must be the name of an account"),
        ("a/", "write ACCOUNT, or ACCOUNT/SUBJECT"),
        (7, "write ACCOUNT[/SUBJECT], or a mapping with account"),
        ({}, "account must be the name of an account"),
        ({"account": "a", "subjct": "x"}, "unknown key 'subjct'; did you mean 'subject'?"),
        (
            {"account": "a", "subject": "x" * (LONGEST_SUBJECT + 1)},
            "subject must be printable text",
        ),
        ({"account": "a", "subject": "x\x1b[2J"}, "subject must be printable text"),
        ({"account": "a", "subject": 7}, "subject must be printable text"),
        ({"account": "a", "scope": ["prod"]}, "scope must be a mapping"),
        ({"account": "a", "scope": {"pull": ["prod"]}}, "scope: unknown key 'pull'"),
        ({"account": "a", "scope": {"push": "prod"}}, "scope: push must be a list"),
        (
            {"account": "a", "scope": {"push": ["p"] * (MOST_PATTERNS + 1)}},
            "must be a list of at most",
        ),
        ({"account": "a", "scope": {"push": ["prod/A"]}}, "has a bad path segment"),
        ({"account": "a", "scope": {"push": [7]}}, "is not a pattern"),
        (
            {
                "account": "a",
                "scope": {"push": [f"p/{'a' * 400}"] * 8, "copy_to": [f"p/{'b' * 200}"] * 8},
            },
            "scope: its patterns have more than 4096 characters",
        ),
    ],
)
def test_what_is_none_is_refused_in_one_line(value: object, problem: str) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        OnBehalfOf.parse(value)
    assert problem in str(error.value)
    assert str(error.value).isprintable()


@pytest.mark.parametrize(("kind", "fields"), REQUESTS, ids=lambda one: getattr(one, "__name__", ""))
def test_a_request_carries_it_in_the_newest_version_alone(
    kind: RequestType, fields: dict[str, Any]
) -> None:
    request = kind.model_validate(fields | {"on_behalf_of": SCOPED})
    stored = json.loads(request.to_stored())
    assert stored["version"] == VERSIONS[request.kind]  # type: ignore[index]
    assert stored["on_behalf_of"] == SCOPED
    assert parse_request(request.to_stored()) == request
    plain = kind.model_validate(fields)
    assert "on_behalf_of" not in plain.to_stored()
    assert json.loads(plain.to_stored())["version"] == 1
    if kind is not MigrationRequest:
        assert plain.fingerprint() != request.fingerprint()


@pytest.mark.parametrize(("kind", "fields"), REQUESTS, ids=lambda one: getattr(one, "__name__", ""))
def test_a_stored_request_with_a_bad_one_is_refused(
    kind: RequestType, fields: dict[str, Any]
) -> None:
    stored = json.loads(kind.model_validate(fields).to_stored())
    stored["on_behalf_of"] = {"account": "team-a", "subject": "x" * 1000}
    with pytest.raises(ValidationError, match="subject must be printable text"):
        parse_request(json.dumps(stored))


def test_fingerprints_of_requests_without_it_are_those_of_older_versions() -> None:
    push, copy = (kind.model_validate(fields) for kind, fields in REQUESTS[:2])
    assert push.fingerprint() == "68facf079ca40c653db8725829839542"
    assert copy.fingerprint() == "41ef3f763832aaedcebfbefa93530d3a"
