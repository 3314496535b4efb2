"""Measurements let the sides take turns, compare them pair by pair and say what is missed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks import peers
from benchmarks.cases import CASES
from benchmarks.measure import OURS, Case, Result, Side, Wanted, measure
from benchmarks.report import Surroundings, document, table
from benchmarks.servers import Ground
from tests.support.corpus import KIB, large_layers, shared_layers
from tests.support.processes import program

AROUND = Surroundings({"cores": "2"}, {"peer": "1.9"})


class Scripted(Case):
    """A fake: its sides take what they are told to."""

    name = "scripted"
    title = "a case that is told what it takes"

    def __init__(self, ours: list[float], theirs: list[float]) -> None:
        self.limits = {"peer": 0.5}
        self.order: list[str] = []
        self._figures = {OURS: ours, f"{OURS}, whole process": [9.0] * len(ours), "peer": theirs}

    @contextmanager
    def sides(self, ground: Ground, rounds: int, wanted: Wanted) -> Iterator[list[Side]]:
        yield [self._side(name) for name in self._figures]

    def _side(self, name: str) -> Side:
        def run(number: int) -> float:
            self.order.append(name)
            return self._figures[name][number]

        return Side(name, run)


def measured(ours: list[float], theirs: list[float]) -> tuple[Scripted, Result]:
    case = Scripted(ours, theirs)
    with case.sides(Ground(Path("/")), len(ours), Wanted()) as sides:
        return case, measure(case, sides, len(ours), lambda _: None)


def test_sides_take_turns_and_another_one_begins_each_round() -> None:
    case, _ = measured([1, 1, 1], [2, 2, 2])
    whole = f"{OURS}, whole process"
    assert case.order == [OURS, whole, "peer", whole, "peer", OURS, "peer", OURS, whole]


def test_ratios_are_those_of_pairs_and_not_of_medians() -> None:
    _, result = measured([1, 2, 9], [4, 2, 10])
    (comparison,) = result.comparisons
    assert result.series[OURS].median == 2
    assert result.series["peer"].median == 4
    assert comparison.ratios == (0.25, 1.0, 0.9)
    assert comparison.median == 0.9


@pytest.mark.parametrize(("ours", "word"), [(0.9, "kept"), (1.1, "MISSED")])
def test_a_missed_limit_is_said_in_the_table_and_in_the_result(ours: float, word: str) -> None:
    _, result = measured([ours], [2])
    assert result.kept is (word == "kept")
    assert f"at most 0.5: {word}" in table([result], AROUND)
    (case,) = json.loads(document([result], AROUND))["cases"]
    assert case["kept"] is (word == "kept")
    assert case["ratios"]["peer"] == {"median": ours / 2, "limit": 0.5, "pairs": [ours / 2]}
    assert case["sides"][OURS]["figures"] == [ours]


def test_all_that_is_to_be_reached_has_a_limit() -> None:
    assert set(CASES) == {
        *("cold", "nothing", "one-layer", "eight-layers", "cold-far", "nothing-far", "memory")
    }
    assert all(case.limits or case.limit for case in CASES.values())


@pytest.mark.registry
def test_the_peers_move_what_they_are_measured_by(tmp_path: Path) -> None:
    program("skopeo")
    program("curl")
    shared = shared_layers(2, 2, shared=1, shared_size=9 * KIB, own_size=5 * KIB, seed="shared")
    large = large_layers(1, 300 * KIB)
    ground = Ground(tmp_path, round_trip_s=0.001)
    with ground.registry(shared) as source, ground.registry() as target:
        assert peers.skopeo_sync(source, shared, target) > 0
        target.check(shared, peers.SYNCED)
        with pytest.raises(AssertionError, match="is not sha256"):
            target.check(shared)
    with ground.registry(large) as source, ground.registry() as target:
        (image,) = large.images
        peers.curl_to_curl(source, image, target)
        target.check_blob(image.repository, image.layers[0])
        peers.skopeo_copy(source, image, target)
        target.check(large)
        target.discard()
        assert list(tmp_path.iterdir()) == [source.registry.data]
