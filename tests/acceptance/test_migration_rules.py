"""What a migration's rules and the catalogue say, as whole fleets keep it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fixtures import PASSWORD, USER
from tests.support.images.corpus import (
    KIB,
    MANIFEST_TYPE,
    Corpus,
    Image,
    Layer,
    digest_of,
    shared_layers,
)
from tests.support.images.corpus_fill import fill
from tests.support.images.registry_images import (
    entry,
    image,
    index,
    noise,
    put_image,
    repository,
    with_pool,
)
from tests.support.scripted_servers.login_recorder import Recorder
from tests.support.servers.registry import Registry
from tests.support.workers.copy_site import CopySite, component, counted, manifests, raw, rule, spec
from transship import JobFailed, State, UsageError
from transship.migrations import Migration, MigrationFailed
from transship_worker.oci.pool import ClientPool
from transship_worker.oci.referrers import fallback_tag

pytestmark = [pytest.mark.redis, pytest.mark.registry]

#: Refuses one tag by a policy of its own, and writes down what it was asked.
POLICY = """
from pathlib import Path
from typing import ClassVar

from transship_worker import BaseContainerRegistry, PrepareFailed

ASKED = Path(__file__).with_name("asked.txt")


class Policed(BaseContainerRegistry):
    FLAVOR: ClassVar[str] = "policed"

    def prepare_image_push(self, image_name: str) -> None:
        with ASKED.open("a") as file:
            file.write(f"{image_name}\\n")
        if image_name.endswith("app001:v2"):
            raise PrepareFailed(f"{image_name}: v2 of this one is not released")
"""


@pytest.fixture(scope="module")
def registries() -> Iterator[tuple[Registry, Registry]]:
    """The source and the target of this module's tests, in repositories of their own."""
    with Registry() as source, Registry() as target:
        yield source, target


class Sides:
    """A fleet of one worker between both registries."""

    def __init__(self, site: CopySite, source: Registry, target: Registry) -> None:
        self.site, self.source, self.target = site, source, target

    def catalog(self, **new: Any) -> None:
        """Both as components; ``new`` are further options of the target."""
        self.site.write_catalog(
            {
                "old": component(self.source.address),
                "new": component(self.target.address, **new),
            }
        )

    def start(self, *repositories: str, **more: Any) -> Migration:
        """A migration of one rule."""
        return self.site.client.migrate(spec(rule("old", "new", *repositories, **more)))

    def ended(self, *repositories: str, **more: Any) -> dict[str, int]:
        """What became of the images of one rule."""
        return counted(self.start(*repositories, **more).wait(timeout=60).images)

    def put(self, registry: Registry, name: str, *tags: str, note: str = "") -> str:
        """One image under these tags; another note is another image. Its digest."""
        layers = (Layer(f"{name}/{note}", 4 * KIB),)
        images = tuple(Image(name, tag, layers, note) for tag in tags)
        fill(registry.base, Corpus(name, images))
        return images[0].digest


@pytest.fixture
def sides(tmp_path: Path, redis_url: str, registries: tuple[Registry, Registry]) -> Iterator[Sides]:
    site = CopySite(tmp_path, redis_url)
    found = Sides(site, *registries)
    found.catalog()
    yield found
    site.close()


@pytest.mark.parametrize(
    ("policy", "ends", "kept"),
    [
        ("overwrite", {"planned": 2, "succeeded": 2}, False),
        ("skip", {"planned": 2, "succeeded": 1, "skipped": 1}, True),
        ("fail", {"planned": 2, "succeeded": 1, "failed": 1}, True),
    ],
)
def test_a_tag_with_another_image_is_treated_as_the_rule_says(
    sides: Sides, policy: str, ends: dict[str, int], kept: bool
) -> None:
    name = f"conflict/{policy}"
    theirs = sides.put(sides.source, name, "v1", note="new")
    sides.put(sides.source, name, "v2", note="other")
    ours = sides.put(sides.target, name, "v1", note="old")
    sides.site.start_copier()

    migration = sides.start(name, on_conflict=policy)
    if policy == "fail":
        with pytest.raises(MigrationFailed):
            migration.wait(timeout=60)
        (failed,) = migration.jobs(state=State.FAILED)
        assert failed.error is not None
        assert failed.error.code == "tag_conflict"
    else:
        migration.wait(timeout=60)

    assert counted(migration.record().images) == ends
    assert sides.target.digest(name, "v1") == (ours if kept else theirs)
    assert sides.target.digest(name, "v2") == sides.source.digest(name, "v2")


def test_a_tag_that_never_moves_is_not_looked_up_again(sides: Sides) -> None:
    name = "immutable/app"
    sides.put(sides.source, name, "v1", note="moved although it must not")
    sides.put(sides.source, name, "edge", note="of today")
    ours = sides.put(sides.target, name, "v1", note="first")
    sides.put(sides.target, name, "edge", note="of yesterday")
    sides.site.start_copier()

    images = sides.ended(name, immutable_tags=["^v[0-9]"])

    assert images == {"planned": 2, "succeeded": 1, "skipped": 1}
    assert sides.target.digest(name, "v1") == ours
    assert sides.target.digest(name, "edge") == sides.source.digest(name, "edge")


def test_a_tag_that_moved_since_the_plan_is_reported_and_the_planned_image_is_copied(
    sides: Sides,
) -> None:
    name = "moved/app"
    planned = sides.put(sides.source, name, "v1", note="as planned")
    sides.site.start_copier()
    rows = list(sides.site.client.plan(spec(rule("old", "new", name))).rows())

    later = sides.put(sides.source, name, "v1", note="as of later")
    record = sides.site.client.migrate(rows).wait(timeout=60)

    assert later != planned
    assert sides.target.digest(name, "v1") == planned
    (warning,) = record.warnings
    assert f"old/{name}:v1 is {later} now" in warning
    assert planned in warning


def two_platforms(registry: Registry, name: str) -> dict[str, str]:
    """An index of two images with a signature by cosign's tag and one that refers; digests."""

    async def work(pool: ClientPool) -> dict[str, str]:
        source = repository(pool, registry.address, name)
        found = {}
        for platform in ("linux/amd64", "linux/arm64"):
            layer = noise(3_000, f"{name}{platform}")
            found[platform] = await put_image(source, image(layer), layer, b"{}")
        entries = [entry(one, platform) for platform, one in found.items()]
        found["index"] = top = await put_image(source, index(*entries), tag="v1")
        text = noise(200, f"{name}signature")
        cosign = f"{fallback_tag(top.digest)}.sig"
        found["cosign"] = await put_image(source, image(text), text, b"{}", tag=cosign)
        sbom = image(text, artifactType="x/sbom", subject=top.descriptor.as_json())
        found["sbom"] = await put_image(source, sbom, text, b"{}")
        listed = index(entry(found["sbom"]))
        await put_image(source, listed, tag=fallback_tag(top.digest))
        return {what: one.digest for what, one in found.items()}

    return with_pool(work)


def test_a_subset_of_platforms_is_recognised_by_the_second_run(sides: Sides) -> None:
    name = "platforms/app"
    digests = two_platforms(sides.source, name)
    sides.site.start_copier()

    taken = {"platforms": ["linux/arm64"], "tags": {"include": ["^v"]}}
    first = sides.start(name, **taken)
    assert counted(first.wait(timeout=60).images) == {"planned": 1, "succeeded": 1}
    assert sides.ended(name, **taken) == {"planned": 1, "skipped": 1}

    arrived = manifests(sides.target.address, name, "v1")
    assert digests["linux/arm64"] in arrived
    assert len(arrived) == 2
    assert digests["index"] not in arrived
    (job,) = first.jobs()
    assert job.digest == sides.target.digest(name, "v1")
    assert any(digests["index"] in warning for warning in job.warnings)


def test_signatures_and_sboms_come_along_when_a_rule_says_so(sides: Sides) -> None:
    name = "referrers/app"
    digests = two_platforms(sides.source, name)
    sides.site.start_copier()

    taken = {"referrers": True, "tags": {"include": ["^v"]}}
    assert sides.ended(name, **taken) == {"planned": 1, "succeeded": 1}

    old, new = sides.source.address, sides.target.address
    for digest in digests.values():
        assert raw(new, name, digest) == raw(old, name, digest)
    fallback = fallback_tag(digests["index"])
    assert sides.target.digest(name, f"{fallback}.sig") == digests["cosign"]
    listed = sides.target.manifest(name, fallback)["manifests"]
    assert [one["digest"] for one in listed] == [digests["sbom"]]

    assert sides.ended(name, **taken) == {"planned": 1, "skipped": 1}
    later = attested_later(sides.source, name, digests["linux/arm64"])
    again = sides.start(name, **taken)
    record = again.wait(timeout=60)
    assert counted(record.images) == {"planned": 1, "succeeded": 1}
    # The text and the config of the attestation, and no layer of the image.
    assert record.bytes.moved < 200
    attestation = f"{fallback_tag(digests['linux/arm64'])}.att"
    assert sides.target.digest(name, attestation) == later
    assert sides.ended(name, **taken) == {"planned": 1, "skipped": 1}


def attested_later(registry: Registry, name: str, subject: str) -> str:
    """An attestation where cosign puts it; its digest."""

    async def work(pool: ClientPool) -> str:
        source, text = repository(pool, registry.address, name), noise(100, f"{name}later")
        tag = f"{fallback_tag(subject)}.att"
        return (await put_image(source, image(text), text, b"{}", tag=tag)).digest

    return with_pool(work)


def test_a_target_that_is_only_to_be_read_gets_nothing(sides: Sides) -> None:
    name = "reading/app"
    sides.put(sides.source, name, "v1")
    sides.catalog(allow=["copy_from"])
    sides.site.start_copier()

    with pytest.raises(MigrationFailed) as failed:
        sides.start(name).wait(timeout=60)
    job = sides.site.client.copy(
        f"{sides.source.address}/{name}:v1", f"{sides.target.address}/{name}:v1"
    )
    with pytest.raises(JobFailed, match="not_allowed"):
        job.wait(60)

    assert "copy_to" in str(failed.value)
    assert sides.target.list_tags(name) == []


def test_a_host_that_is_neither_a_component_nor_listed_is_not_read(sides: Sides) -> None:
    name = "unlisted/app"
    sides.put(sides.source, name, "v1")
    host, image_name = sides.source.address, f"{sides.target.address}/{name}:v1"
    sides.site.write_catalog({"new": component(sides.target.address)})
    # While no worker lives nobody can tell the producer; the worker decides by itself.
    migration = sides.site.client.migrate(spec(rule(host, "new", name)))
    sides.site.start_copier()

    with pytest.raises(MigrationFailed, match="anonymous_sources"):
        migration.wait(timeout=60)
    with pytest.raises(UsageError, match="anonymous_sources"):
        sides.site.client.copy(f"{host}/{name}:v1", image_name)
    assert sides.target.list_tags(name) == []


def test_a_listed_host_is_read_without_a_login_although_a_component_has_one(
    sides: Sides, basic_registry: Registry
) -> None:
    name = "anonymous/app"
    digest = sides.put(sides.source, name, "v1")
    with Recorder(sides.source.base) as host:
        locked = component(host.address, username=USER, password=PASSWORD)
        sides.site.write_catalog(
            {"locked": locked, "new": component(sides.target.address)},
            anonymous_sources=[host.address],
        )
        sides.site.start_copier()

        assert counted(
            sides.site.client.migrate(spec(rule(host.address, "new", name))).wait(timeout=60).images
        ) == {"planned": 1, "succeeded": 1}
        assert sides.target.digest(name, "v1") == digest
        assert set(host.logins) == {""}

        # A registry that asks for a login is told that there is none.
        host.base = basic_registry.base
        source, target = f"{host.address}/{name}:v1", f"{sides.target.address}/{name}:v2"
        with pytest.raises(JobFailed, match="denied"):
            sides.site.client.copy(source, target, source_registry=host.address).wait(60)
        assert set(host.logins) == {""}
        # Through the component the login is sent, and would have been seen.
        with pytest.raises(JobFailed, match="not_found"):
            sides.site.client.copy(source, target, source_registry="locked").wait(60)
        assert set(host.logins) > {""}


def test_a_policy_of_a_custom_flavor_stops_its_image_and_no_other(sides: Sides) -> None:
    corpus = shared_layers(3, 2, shared=1, shared_size=4 * KIB, own_size=4 * KIB, seed="policy")
    fill(sides.source.base, corpus)
    (sides.site.folder / "policy.py").write_text(POLICY)
    sides.site.write_catalog(
        {
            "old": component(sides.source.address),
            "new": component(f"{sides.target.address}/policed", flavor="policed"),
        },
        flavors=["policy.Policed"],
        flavor_paths=[str(sides.site.folder)],
    )
    sides.site.start_copier()

    migration = sides.start(*corpus.repositories)
    with pytest.raises(MigrationFailed) as failed:
        migration.wait(timeout=60)

    assert counted(failed.value.record.images) == {"planned": 6, "succeeded": 5, "failed": 1}
    (job,) = migration.jobs(state=State.FAILED)
    assert job.error is not None
    assert (job.error.code, job.error.retryable) == ("prepare_failed", False)
    assert "is not released" in job.error.message
    names = {one.name: f"{sides.target.address}/policed/{one.name}" for one in corpus.images}
    asked = (sides.site.folder / "asked.txt").read_text().splitlines()
    assert sorted(asked) == sorted(names.values())
    # Nothing of it is there: no tag, no manifest, and none of the blobs that only it has.
    (bad,) = (one for one in corpus.images if one.name == "policy/app001:v2")
    repository_name = f"policed/{bad.repository}"
    assert sides.target.list_tags(repository_name) == ["v1"]
    for path in (
        f"manifests/{bad.digest}",
        f"blobs/{bad.layers[-1].digest}",
        f"blobs/{digest_of(bad.config)}",
    ):
        accept = "*/*" if path.startswith("blobs") else MANIFEST_TYPE
        assert sides.target.get(f"{repository_name}/{path}", accept=accept).status_code == 404
