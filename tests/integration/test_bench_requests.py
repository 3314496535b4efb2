"""How many requests the benchmark cases make at their registries, exactly.

Each request is a round trip. Whoever adds one changes a number here, and says why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from benchmarks import images, peers
from benchmarks.cases import CASES
from benchmarks.cases.plan import both, planned
from benchmarks.fleet import Fleet
from benchmarks.images import MadeTar
from benchmarks.measure import OURS, Wanted
from benchmarks.servers import Ground, Place
from tests.support.images.corpus import KIB, Corpus, Layer, large_layers, many_tags
from tests.support.processes import eventually, program
from tests.support.proxies.counting import Asked, Front, FrontRules, Fronts
from tests.support.servers.dockerd import DockerDaemon

pytestmark = [pytest.mark.redis, pytest.mark.registry]

#: Requests by method and kind of path.
Counts = Mapping[str, int]


@dataclass(frozen=True)
class CountedGround(Ground):
    """Registries that are reached through a server that counts."""

    fronts: Fronts = field(default_factory=Fronts)
    made: list[Front] = field(default_factory=list)

    @contextmanager
    def registry(
        self, corpus: Corpus | None = None, *, like: Place | None = None
    ) -> Iterator[Place]:
        """See ``Ground``; what fills and checks the registry is not counted."""
        with Ground.registry(self, corpus, like=like) as place:
            front = self.fronts.make(place.address, FrontRules())
            self.made.append(front)
            yield replace(place, address=front.address)

    def count(self, run: Callable[[], object]) -> list[Counts]:
        """What ``run`` asks, for each registry that it asks, in the order of their start."""
        for front in self.made:
            front.asked = []
        run()
        # A request is counted when its answer is sent, which the client may have read before.
        eventually(lambda: not any(front.unanswered for front in self.made))
        return [Counter(map(_kind, front.asked)) for front in self.made if front.asked]


def _kind(asked: Asked) -> str:
    return f"{asked.method} {'mounts' if 'mount=' in asked.path else asked.kind}"


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[CountedGround]:
    """Tiny work on counted registries."""
    with Fronts() as fronts:
        yield CountedGround(tmp_path, tiny=True, fronts=fronts)


def one_round(ground: CountedGround, name: str) -> list[Counts]:
    """Requests of one round of our own side, after what its benchmark does before the clock."""
    with CASES[name].sides(ground, 1, Wanted(peers=False)) as sides:
        (ours,) = (side for side in sides if side.name == OURS)
        return ground.count(lambda: ours.run(0))


#: A component that a worker did not ask before is asked at ``/v2/`` first: ``GET other``.
PING = {"GET other": 1}
#: How many uploaded blobs, and manifests that a planner is told of, a worker reads at first at a
#: target (``oci.learned``); of the others it reads some by chance.
UPLOADS_READ, PLANNED_READ = 8, 4
#: By chance no more are read here, but for once in some millions of runs.
CHANCE = 6


def without_checks(counts: Counts, kind: str, first: int) -> Counts:
    """Requests without those by which a worker sees whether a target's word is true."""
    checks = counts[kind]
    assert first <= checks <= first + CHANCE
    return {other: count for other, count in counts.items() if other != kind}


@pytest.mark.parametrize(("name", "blobs"), [("one-layer", 2), ("eight-layers", 9)])
def test_a_copy_asks_once_for_all_that_it_needs(
    ground: CountedGround, name: str, blobs: int
) -> None:
    source, target = one_round(ground, name)
    assert source == {**PING, "HEAD manifests": 1, "GET manifests": 1, "GET blobs": blobs}
    read = min(blobs, UPLOADS_READ)
    assert without_checks(target, "GET blobs", read) == {
        **PING,
        # The tag, and the image under its digest.
        "HEAD manifests": 2,
        "HEAD blobs": blobs,
        "POST uploads": blobs,
        "PUT uploads": blobs,
        "PUT manifests": 1,
    }


def test_a_migration_into_an_empty_registry_looks_for_nothing_there(
    ground: CountedGround,
) -> None:
    # Six images in three repositories: 14 blobs, and 2 that are mounted twice.
    source, target = one_round(ground, "cold")
    assert source == {**PING, "GET tags": 3, "GET manifests": 6, "GET blobs": 14}
    # One more of a worker's first mount: whether 201 means that the blob is there.
    assert without_checks(target, "GET blobs", UPLOADS_READ + 1) == {
        **PING,
        "GET tags": 3,
        "POST uploads": 14,
        "PUT uploads": 14,
        "POST mounts": 4,
        "PUT manifests": 6,
    }


def test_a_migration_with_nothing_to_do_asks_for_each_tag_once(ground: CountedGround) -> None:
    source, target = one_round(ground, "nothing")
    assert source == {"GET tags": 3, "HEAD manifests": 6}
    # One more: what nobody has, as no HEAD was refused before.
    asked = {"GET tags": 3, "HEAD manifests": 7}
    assert without_checks(target, "GET manifests", PLANNED_READ) == asked


@pytest.mark.parametrize(("count", "lists"), [(49, 1), (50, 2)])
def test_a_plan_asks_for_each_tag_once_and_goes_on_after_a_list_of_fifty_without_a_link(
    ground: CountedGround, count: int, lists: int
) -> None:
    with ExitStack() as stack:
        corpus = many_tags(count, count, repositories=1)
        places = both(stack, ground, corpus)
        source, target = ground.count(lambda: planned(corpus, *places))
    assert source == {**PING, "GET tags": lists, "HEAD manifests": count}
    asked = {**PING, "GET tags": lists, "HEAD manifests": count + 1}
    assert without_checks(target, "GET manifests", PLANNED_READ) == asked


def test_a_copy_with_nothing_to_do_asks_for_both_tags(ground: CountedGround) -> None:
    corpus = large_layers(1, 4 * KIB)
    (image,) = corpus.images
    with ground.registry(corpus) as source, ground.registry() as target:
        names = [f"{place.address}/{image.name}" for place in (source, target)]
        with Fleet({"source": source, "target": target}) as fleet:
            fleet.client.copy(*names).wait()
            asked, read = ground.count(lambda: fleet.client.copy(*names).wait())
    assert asked == {"HEAD manifests": 1}
    # The first images that are said to be there are read: the manifest, and a byte of each blob.
    assert read == {"HEAD manifests": 1, "GET manifests": 1, "GET blobs": 2}


#: The engine's own look at a tag: that it is there, its manifest and its config.
CONFIRMATION = {"GET other": 1, "HEAD manifests": 1, "GET manifests": 1, "GET blobs": 1}


@pytest.mark.engine
@pytest.mark.parametrize("name", ["push-tiny", "push-top"])
def test_a_push_by_the_engine_adds_one_confirmation_to_what_docker_push_asks(
    ground: CountedGround, name: str
) -> None:
    program("docker")
    with CASES[name].sides(ground, 1, Wanted()) as sides:
        runs = {side.name: side.run for side in sides}
        (plain,) = ground.count(lambda: runs[peers.DOCKER_PUSH](0))
        (ours,) = ground.count(lambda: runs[OURS](0))
    added = Counter(ours)
    added.subtract(plain)
    # An engine that pushed a layer to another registry before looks for it under that digest, too.
    assert added.pop("HEAD blobs") in {0, 1}
    assert {kind: count for kind, count in added.items() if count} == CONFIRMATION


@pytest.mark.engine
def test_a_streamed_push_uploads_each_blob_and_is_confirmed_once(ground: CountedGround) -> None:
    with ExitStack() as stack:
        engine = stack.enter_context(DockerDaemon())
        client = stack.enter_context(closing(engine.client()))
        target = stack.enter_context(ground.registry())
        fleet = stack.enter_context(Fleet({"target": target}, engine=engine))
        name = f"{target.address}/bench/app"
        client.api.tag(images.load(client, [MadeTar(Layer("one", 4 * KIB))], "one"), name, "v1")
        counts = ground.count(lambda: fleet.client.push(f"{name}:v1", via="stream").wait())
        again = ground.count(lambda: fleet.client.push(f"{name}:v1", via="stream").wait())
    ping = CONFIRMATION["GET other"] + PING["GET other"]
    uploads = {"POST uploads": 2, "PATCH uploads": 1, "PUT uploads": 2, "PUT manifests": 1}
    assert counts == [{**CONFIRMATION, "GET other": ping, "HEAD blobs": 1, **uploads}]
    assert again == [CONFIRMATION]
