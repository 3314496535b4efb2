"""Whatever stands where a request should is read as one, or refused with pydantic's error."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from transship.model.request_fields import request_problem
from transship.model.requests import parse_request

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
KEYS = st.sampled_from(["kind", "version", "image", "registry", "source", "spec", "mode", "labels"])


@pytest.mark.parametrize("kind", ["{}", "[]", "1", "null", '"none"', '{"copy": 1}', "true"])
def test_a_kind_that_is_none_is_refused_like_any_mistake(kind: str) -> None:
    with pytest.raises(ValidationError):
        parse_request(f'{{"version": 1, "kind": {kind}}}')


@given(st.dictionaries(KEYS, JSON) | JSON)
def test_nothing_but_a_validation_error_comes_of_any_json(value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        parse_request(json.dumps(value))
    assert request_problem(caught.value).message


@given(st.binary())
def test_nothing_but_a_validation_error_comes_of_any_bytes(value: bytes) -> None:
    try:
        found = parse_request(value)
    except ValidationError as error:
        assert request_problem(error).message
    else:
        # By chance, or because a test has it in its source.
        assert parse_request(found.to_stored()) == found
