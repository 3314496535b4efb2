"""The corpus of the fuzzer, without the fuzzer: each kept input once, also where it cannot run."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.mutate import mutated
from tests.fuzz.targets import TARGETS
from tests.support.repository import ROOT

CORPUS = ROOT / "tests" / "fuzz" / "corpus"


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_every_kept_input_ends_in_a_value_or_a_typed_error(name: str) -> None:
    kept = sorted((CORPUS / name).iterdir())
    assert kept
    for path in kept:
        assert path.stat().st_size <= 2 * TARGETS[name].longest
        TARGETS[name].run(path.read_bytes())


def test_every_folder_of_the_corpus_is_that_of_a_target() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)


@given(st.binary(max_size=200) | st.just(b'{"a": [1, "b", {}]}'), st.integers(0, 2**31))
def test_a_changed_input_is_json_and_not_too_long(data: bytes, seed: int) -> None:
    kept = b'{"as": "it was"}'
    made = mutated(data, 10_000, seed, words=("x",), bytewise=lambda *_: kept)
    json.loads(made)
    assert len(mutated(data, 40, seed, words=("x",), bytewise=lambda *_: kept)) <= max(
        40, len(data), len(kept)
    )
