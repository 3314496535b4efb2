"""Each target of the fuzzer, for a while; ``./dev fuzz`` goes on with seeds by chance."""

from __future__ import annotations

import importlib.util

import pytest

from tests.fuzz.__main__ import fuzz
from tests.fuzz.targets import TARGETS
from tests.support.processes import missing

#: A red run is to be the fault of what was changed, and not of chance.
SEED, EXECUTIONS = 20261125, 100_000


@pytest.mark.timeout(400)
@pytest.mark.parametrize("target", sorted(TARGETS))
def test_strangers_texts_end_in_a_value_or_a_typed_error(target: str) -> None:
    if importlib.util.find_spec("atheris") is None:
        missing("Atheris is not installed; it has wheels for Linux on x86-64, Python 3.11 to 3.13")

    result = fuzz(target, EXECUTIONS, SEED, keep=False)

    assert not result.broken, result.output
    assert result.executions >= EXECUTIONS
