"""Migrations as whole fleets run them: from registry to registry, each byte once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.images.corpus import KIB, Corpus, shared_layers
from tests.support.images.corpus_fill import fill
from tests.support.processes import eventually
from tests.support.proxies.tcp import TcpProxy
from tests.support.servers.redis import RedisServer
from tests.support.servers.registry import Registry
from tests.support.workers.process import Site
from transship import State
from transship.migrations import Migration, MigrationFailed
from transship.model.references import ImageReference

pytestmark = [pytest.mark.redis, pytest.mark.registry, pytest.mark.engine]

#: The layers are smaller than real ones, so that their number counts and not their size.
CORPUS = shared_layers(20, 5, shared_size=256 * KIB, own_size=32 * KIB, seed="acceptance")
#: Requests and answers besides blobs, for a hundred images. Unit: bytes.
TALK = 2 * 1024 * KIB


class Sides:
    """A filled source and an empty target, as components of one fleet."""

    def __init__(self, site: Site, source: Registry, target: Registry) -> None:
        self.site = site
        self.source = source
        self.target = target
        self.way = TcpProxy(target.port)
        site.write_catalog(
            {
                "old": {"flavor": "default", "uri": source.address},
                "new": {"flavor": "default", "uri": f"{self.way.address}/mirror"},
            }
        )

    @property
    def spec(self) -> dict[str, Any]:
        rule = {
            "from": {"registry": "old", "repositories": ["**"]},
            "to": {"registry": "new", "repository": "{repository}"},
        }
        return {"version": 1, "name": "old-to-new", "rules": [rule]}

    def migrate(self, **changes: Any) -> Migration:
        return self.site.client.migrate(self.spec | changes)

    def missing(self, corpus: Corpus) -> list[str]:
        """Images whose tag at the target is not the source's image."""
        return [
            image.name
            for image in corpus.images
            if self.target.digest(f"mirror/{image.repository}", image.tag) != image.digest
        ]


@pytest.fixture
def sides(site: Site) -> Iterator[Sides]:
    with Registry() as source, Registry() as target:
        found = Sides(site, source, target)
        yield found
        found.way.close()


@pytest.mark.parametrize("workers", [1, 3])
def test_a_hundred_tags_travel_once_and_a_second_run_copies_nothing(
    sides: Sides, workers: int
) -> None:
    fill(sides.source.base, CORPUS)
    for _ in range(workers):
        # Nothing is to be lost here, however busy the machine is.
        sides.site.start_worker("--no-engine", TRANSSHIP_LEASE="30")

    record = sides.migrate().wait(timeout=120)

    assert sides.missing(CORPUS) == []
    assert record.images.model_dump(exclude_defaults=True) == {"planned": 100, "succeeded": 100}
    assert record.bytes.moved == CORPUS.unique_bytes
    # What went over the wire, counted from outside: the blobs once, and talk.
    assert CORPUS.unique_bytes <= sides.way.bytes_up <= CORPUS.unique_bytes + TALK
    assert record.bytes.planned == record.bytes.settled

    before = sides.way.bytes_up
    again = sides.migrate().wait(timeout=60)
    assert again.images.model_dump(exclude_defaults=True) == {"planned": 100, "skipped": 100}
    assert (again.bytes.moved, again.bytes.mounted) == (0, 0)
    assert sides.way.bytes_up - before < TALK


def test_a_worker_that_is_killed_in_the_middle_costs_only_what_was_in_flight(
    sides: Sides,
) -> None:
    fill(sides.source.base, CORPUS)
    sides.way.rate = 4 * 1024 * KIB
    first, _ = [sides.site.start_worker("--no-engine") for _ in range(2)]
    migration = sides.migrate()
    eventually(lambda: migration.record().images.succeeded >= 10, within=60)
    first.kill9()
    sides.way.rate = None

    record = migration.wait(timeout=120)

    assert sides.missing(CORPUS) == []
    assert record.images.succeeded + record.images.skipped == 100
    # Each image that was under way may have begun its own layer, and each shared layer once more.
    shared = {layer.digest: layer.size for layer in CORPUS.images[0].layers[:-1]}
    in_flight = sum(shared.values()) + 64 * 33 * KIB
    assert sides.way.bytes_up <= CORPUS.unique_bytes + in_flight + TALK


@pytest.mark.timeout(400)
def test_a_redis_that_restarts_in_the_middle_is_outlived(tmp_path: Path, docker_url: str) -> None:
    with RedisServer() as redis_server, Registry() as source, Registry() as target:
        site = Site(tmp_path, redis_server.url, docker_url)
        sides = Sides(site, source, target)
        try:
            fill(source.base, CORPUS)
            sides.way.rate = 4 * 1024 * KIB
            site.start_worker("--no-engine")
            migration = sides.migrate()
            eventually(lambda: migration.record().images.succeeded >= 10, within=60)
            redis_server.kill9()
            redis_server.start()
            sides.way.rate = None

            record = migration.wait(timeout=300)

            assert sides.missing(CORPUS) == []
            assert record.images.succeeded + record.images.skipped == 100
        finally:
            site.close()
            sides.way.close()


def test_a_redis_that_restarts_while_planning_is_outlived(tmp_path: Path, docker_url: str) -> None:
    corpus = shared_layers(3, 2, shared=1, shared_size=4 * KIB, own_size=4 * KIB, seed="away")
    with RedisServer() as redis_server, Registry() as source, Registry() as target:
        site = Site(tmp_path, redis_server.url, docker_url)
        sides = Sides(site, source, target)
        try:
            fill(source.base, corpus)
            site.start_worker("--no-engine", TRANSSHIP_LEASE="30")
            sides.way.hang()
            migration = sides.migrate()
            eventually(lambda: site.client.job(migration.id).record().step == "planning")
            redis_server.kill9()
            sides.way.resume()
            redis_server.start()

            record = migration.wait(timeout=120)

            assert sides.missing(corpus) == []
            assert record.images.planned == len(corpus.images)
        finally:
            site.close()
            sides.way.close()


def test_an_image_with_a_corrupt_blob_fails_alone(sides: Sides) -> None:
    corpus = shared_layers(2, 3, shared=1, shared_size=8 * KIB, own_size=8 * KIB, seed="corrupt")
    fill(sides.source.base, corpus)
    bad = corpus.images[0]
    algorithm, _, value = bad.layers[-1].digest.partition(":")
    (blob,) = sides.source.data.glob(f"**/blobs/{algorithm}/{value[:2]}/{value}/data")
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.write_bytes(content)
    sides.site.start_worker("--no-engine")

    migration = sides.migrate()
    with pytest.raises(MigrationFailed) as failed:
        migration.wait(timeout=60)

    images = failed.value.record.images
    assert images.model_dump(exclude_defaults=True) == {"planned": 6, "succeeded": 5, "failed": 1}
    assert sides.missing(corpus) == [bad.name]
    assert sides.target.digest(f"mirror/{bad.repository}", bad.tag) is None
    (job,) = migration.jobs(state=State.FAILED)
    assert job.error is not None
    assert job.error.code == "digest_mismatch"
    # The source is mended; only the failure is tried again.
    content[len(content) // 2] ^= 1
    blob.write_bytes(content)
    migration.retry()
    assert migration.wait(timeout=60).images.succeeded == 6
    assert sides.missing(corpus) == []


def test_a_plan_is_reviewed_cut_and_run(sides: Sides) -> None:
    corpus = shared_layers(3, 2, shared=1, shared_size=4 * KIB, own_size=4 * KIB, seed="plan")
    fill(sides.source.base, corpus)
    site = sides.site
    site.start_worker("--no-engine")
    (site.folder / "spec.yaml").write_text(json.dumps(sides.spec))

    planned = site.run("migrate", "plan", "spec.yaml", "-o", "plan.jsonl")
    assert planned.returncode == 0, planned.stderr
    rows = (site.folder / "plan.jsonl").read_text().splitlines()
    assert {json.loads(row)["action"] for row in rows} == {"copy"}
    assert sides.missing(corpus) == [image.name for image in corpus.images]
    (site.folder / "cut.jsonl").write_text("\n".join(rows[:2]) + "\n")

    ran = site.run("migrate", "run", "cut.jsonl", "--wait", "--json")
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert (found["state"], found["images"]["succeeded"]) == ("succeeded", 2)
    assert len(sides.missing(corpus)) == len(corpus.images) - 2


def test_a_copy_of_one_image_is_a_job_like_a_push(sides: Sides) -> None:
    corpus = shared_layers(1, 1, shared=1, shared_size=4 * KIB, own_size=4 * KIB, seed="one")
    fill(sides.source.base, corpus)
    sides.site.start_worker("--no-engine")
    (image,) = corpus.images
    source = f"{sides.source.address}/{image.name}"
    target = f"{sides.way.address}/mirror/copied:7"

    done = sides.site.run("copy", source, target, "--wait", "--json")

    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout.splitlines()[-1])
    assert (record["kind"], record["state"], record["digest"]) == (
        "copy",
        "succeeded",
        image.digest,
    )
    assert record["image"] == str(ImageReference.parse(target))
    assert sides.target.digest("mirror/copied", "7") == image.digest


def test_a_cancelled_migration_stops_and_says_so(sides: Sides) -> None:
    fill(sides.source.base, CORPUS)
    sides.way.rate = 256 * KIB
    sides.site.start_worker("--no-engine")
    migration = sides.migrate()
    eventually(lambda: migration.record().images.running > 0, within=60)

    done = sides.site.run("cancel", migration.id)

    assert done.returncode == 0, done.stderr
    eventually(lambda: migration.record().state is State.CANCELLED, within=60)
    images = migration.record().images
    assert images.unfinished == 0
    assert images.cancelled > 0


def test_a_bad_specification_is_one_line_that_names_the_place(sides: Sides) -> None:
    spec = json.dumps(sides.spec, indent=2).replace('"registry": "new"', '"registy": "new"')
    (sides.site.folder / "spec.yaml").write_text(spec)

    done = sides.site.run("migrate", "run", "spec.yaml")

    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    line = next(n for n, text in enumerate(spec.splitlines(), 1) if "registy" in text)
    assert f"spec.yaml:{line}" in done.stderr
    assert "did you mean 'registry'" in done.stderr
