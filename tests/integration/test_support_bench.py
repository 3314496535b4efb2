"""Measurements let the sides take turns, compare them pair by pair and say what is missed."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import images, page, peers
from benchmarks.cases import CASES, chosen, links
from benchmarks.measure import (
    OURS,
    Case,
    Figure,
    Kind,
    Limit,
    Pair,
    Result,
    Side,
    Wanted,
    measure,
)
from benchmarks.report import Surroundings, document, table
from benchmarks.servers import Ground
from tests.support.images.corpus import KIB, large_layers, shared_layers
from tests.support.processes import program

AROUND = Surroundings({"cores": "2"}, {"peer": "1.9"})


class Scripted(Case):
    """A fake: its sides take what they are told to."""

    name = "scripted"
    title = "a case that is told what it takes"

    def __init__(self, ours: list[float], theirs: list[float]) -> None:
        self.limits = {"peer": Limit(0.5)}
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
    assert comparison.pairs == (0.25, 1.0, 0.9)
    assert comparison.median == 0.9


@pytest.mark.parametrize(("ours", "word"), [(0.9, "kept"), (1.1, "MISSED")])
def test_a_missed_limit_is_said_in_the_table_and_in_the_result(ours: float, word: str) -> None:
    _, result = measured([ours], [2])
    assert result.kept is (word == "kept")
    assert f"at most 0.5: {word}" in table([result], AROUND)
    (case,) = json.loads(document([result], AROUND))["cases"]
    assert case["kept"] is (word == "kept")
    (ratio,) = case["ratios"]
    assert (ratio["theirs"], ratio["kind"], ratio["limit"]) == ("peer", "at most", 0.5)
    assert ratio["pairs"] == [ours / 2]
    assert case["sides"][OURS]["figures"] == [ours]


@pytest.mark.parametrize(
    ("kind", "mine", "kept"),
    [
        (Kind.AT_MOST, 5, True),
        (Kind.AT_MOST, 5.1, False),
        (Kind.AT_LEAST, 5, True),
        (Kind.AT_LEAST, 4.9, False),
        (Kind.MORE_BY, 10.5, True),
        (Kind.MORE_BY, 10.6, False),
    ],
)
def test_a_limit_is_a_quotient_of_times_or_of_rates_or_a_difference(
    kind: Kind, mine: float, kept: bool
) -> None:
    limit = Limit(0.5, kind)
    assert limit.keeps(limit.pair(mine, 10)) is kept


class Sized(Scripted):
    """A fake that knows more than how long it took."""

    def _side(self, name: str) -> Side:
        def run(number: int) -> Figure:
            return Figure(self._figures[name][number], {"size MiB": 3.0 if name == OURS else 2.0})

        return Side(name, run)

    def pairs(self, names: Sequence[str]) -> list[Pair]:
        return [*super().pairs(names), Pair("peer", Limit(1.15), what="size MiB")]


def test_what_a_run_shows_beside_its_time_has_a_limit_too() -> None:
    case = Sized([1, 1], [4, 4])
    with case.sides(Ground(Path("/")), 2, Wanted()) as sides:
        result = measure(case, sides, 2, lambda _: None)

    assert result.series["peer"].beside == {"size MiB": (2.0, 2.0)}
    assert [one.kept for one in result.comparisons] == [True, False]
    assert not result.kept
    assert "÷ peer, size MiB: 1.500 (1.500 to 1.500), at most 1.15: MISSED" in table(
        [result], AROUND
    )


def test_all_that_is_to_be_reached_has_a_limit() -> None:
    # slow-registry says by itself whether it is kept.
    assert {name for name, case in CASES.items() if not case.limits and not case.limit} == {
        *("idle", "scale-ledger", "scale-tags", "scale-workers", "scale-copy", "scale-push"),
        "slow-registry",
    }
    assert len(CASES) == 27


def test_what_is_measured_is_all_but_growth_unless_names_are_given() -> None:
    assert {case.name for case in chosen([], scale=False)} == {
        name for name in CASES if not name.startswith("scale-")
    }
    assert chosen(["scale"], scale=False) == chosen([], scale=True)
    assert [case.name for case in chosen(["submit", "cold"], scale=False)] == ["cold", "submit"]
    with pytest.raises(LookupError, match="cool"):
        chosen(["cool"], scale=False)


def test_the_page_is_made_of_what_was_measured_and_says_what_was_not(tmp_path: Path) -> None:
    case, result = measured([0.9, 1.1], [2, 1])
    case.name, case.title = "push-layer", "a layer | and more"
    growing = Growing()
    with growing.sides(Ground(Path("/")), 1, Wanted()) as sides:
        growth = measure(growing, sides, 1, lambda _: None)
    file = tmp_path / "run.json"
    file.write_text(document([result, growth], AROUND, tiny=True))

    written = page.write([file], tmp_path)

    text = (tmp_path / "performance.md").read_text()
    assert "{{" not in text
    assert "- cores 2\n- peer 1.9\n" in text
    assert "A tiny run: no figure means anything" in text
    assert "| `push-layer`: a layer \\| and more | transship | 1 s | 0.9 to 1.1 |" in text
    assert "0.775 ×, at most 0.5: **missed**" in text
    assert "| `cold` | | (not measured) | | |" in text
    pictures = [path for path in written if path.suffix == ".svg"]
    assert {path.name for path in pictures} == {
        *("performance-pushes.svg", "performance-scale-tags.svg")
    }
    for path in pictures:
        assert f"](images/{path.name})" in text
        assert ElementTree.fromstring(path.read_text()).tag.endswith("svg")
    assert "at most 0.5: missed" in pictures[0].read_text()


class Growing(Case):
    """A fake whose cost does not follow its work."""

    name = "scale-tags"
    title = "costs that grow"
    scale = True

    @contextmanager
    def sides(self, ground: Ground, rounds: int, wanted: Wanted) -> Iterator[list[Side]]:
        yield [
            Side(f"{OURS}, {size}", lambda _, size=size: Figure(size, {"in all s": 1}), at=size)  # type: ignore[misc]
            for size in (1, 10)
        ]


def test_a_place_that_nothing_fills_is_an_error(tmp_path: Path) -> None:
    template = tmp_path / "template.md"
    template.write_text("{{tabel: cold}}")
    with pytest.raises(ValueError, match="tabel: cold"):
        page.write([], tmp_path, template)


def test_a_root_file_system_is_made_of_this_machines_files_and_always_the_same(
    tmp_path: Path,
) -> None:
    one, other = (images.root_file_system(tmp_path / name, 300_000) for name in ("one", "other"))
    assert one.diff_id == other.diff_id
    assert one.length >= 300_000
    with tarfile.open(tmp_path / "one") as tar:
        names = tar.getnames()
    assert all(name.startswith("usr/") for name in names)
    assert len(names) > 1


@pytest.mark.redis
@pytest.mark.registry
@pytest.mark.engine
@pytest.mark.parametrize(
    ("name", "sides", "beside"),
    [
        ("submit-bulk", [OURS, "apply_async"], set()),
        ("noop-rate", [OURS, "Celery task"], set()),
        (
            "push-rootfs",
            [OURS, f"{OURS}, whole process", "docker push", "Docker SDK"],
            {"compressed MiB"},
        ),
    ],
)
def test_a_tiny_run_does_the_work_of_all_sides(
    name: str, sides: list[str], beside: set[str], tmp_path: Path
) -> None:
    case = CASES[name]
    with case.sides(Ground(tmp_path, tiny=True), 1, Wanted()) as found:
        result = measure(case, found, 1, lambda _: None)

    assert list(result.series) == sides
    assert all(one.median > 0 and set(one.beside) == beside for one in result.series.values())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.redis
@pytest.mark.registry
def test_workers_with_links_of_their_own_move_a_corpus_together(tmp_path: Path) -> None:
    ground = Ground(tmp_path, tiny=True)
    corpus = links.corpus_of(ground)
    with ground.registry(corpus) as source, ground.registry() as target:
        assert links.migrate(corpus, source, target, 2) > 0
        target.check(corpus)


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
