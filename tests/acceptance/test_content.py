"""Team B knows the digest of a layer of team A, and gets it in no way.

Each way is tried against a real worker, twice: with the rights of accounts, where it fails, and
without the section, where most of them work. A fleet of one team loses nothing by them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from tests.support.images.engine_images import make_image
from tests.support.images.registry_images import (
    describe,
    image,
    index,
    noise,
    put_blob,
    put_image,
    repository,
    with_pool,
)
from tests.support.processes import eventually
from tests.support.scripted_servers.hostile import HostileServer, Reply, Seen
from tests.support.servers.registry import Registry
from tests.support.strict_registry.registry import Rules, StrictRegistry
from tests.support.workers.team_site import TEAM_A, TEAM_B, TeamSite
from transship import Client, JobRecord, State, TransshipError
from transship_worker.oci import manifests
from transship_worker.oci.descriptors import Manifest
from transship_worker.oci.pool import ClientPool

pytestmark = [pytest.mark.redis, pytest.mark.registry, pytest.mark.timeout(300)]

SECRET = noise(40_000, "a layer of team A")


class Heist:
    """What team A has, and how team B asks for it."""

    def __init__(self, teams: TeamSite, prod: Registry, own: StrictRegistry) -> None:
        self.teams, self.prod, self.own = teams, prod, own
        self.a, self.b = teams.client(TEAM_A), teams.client(TEAM_B)
        self.made = image(SECRET, config=b"{}")
        self.layer = self.made.layers[0].digest

    def serve_a(self, a_own: Registry) -> None:
        """Team A has its image copied, by the worker, to its part of ``prod``."""

        async def put(pool: ClientPool) -> None:
            await put_image(
                repository(pool, a_own.address, "app"), self.made, SECRET, b"{}", tag="1"
            )

        with_pool(put)
        name = f"{self.prod.address}/{TEAM_A}/app:1"
        record = self.a.copy(f"{a_own.address}/app:1", name).wait(60)
        assert record.state is State.SUCCEEDED

    def plant(self, name: str, *found: Manifest, blobs: tuple[bytes, ...] = (b"{}",)) -> None:
        """Team B puts manifests into its own registry, the last one as ``NAME:1``."""

        async def put(pool: ClientPool) -> None:
            place = repository(pool, self.own.address, name)
            for blob in blobs:
                await put_blob(place, blob)
            for one in found:
                await manifests.put(place, one.digest, one)
            await manifests.put(place, "1", found[-1])

        with_pool(put)

    def copy(self, source: str, target: str, **more: object) -> JobRecord:
        """What comes of a copy by team B."""
        job = self.b.copy(source, target, **more)  # type: ignore[arg-type]
        return eventually_final(self.b, job.id)

    def b_has(self, digest: str, name: str = "loot") -> bool:
        """Whether a repository of team B holds a blob or manifest now."""
        path = f"{TEAM_B}/{name}"
        return any(
            self.prod.get(f"{path}/{kind}/{digest}").status_code == 200
            for kind in ("blobs", "manifests")
        )


def eventually_final(client: Client, job: str) -> JobRecord:
    found: JobRecord = eventually(  # type: ignore[assignment]
        lambda: record if (record := client.job(job).record()).state.final else None,
        within=90,
        what="an end",
    )
    return found


@pytest.fixture
def registries_of_teams() -> Iterator[tuple[Registry, Registry]]:
    """``prod`` and team A's own, both empty: of what is there already nothing is remembered."""
    with Registry() as prod, Registry() as own:
        yield prod, own


@pytest.fixture
def heist(
    tmp_path: Path,
    docker_url: str,
    registries_of_teams: tuple[Registry, Registry],
    request: pytest.FixtureRequest,
) -> Iterator[Heist]:
    """A worker with rights; marked ``shared``: one without."""
    prod, a_own = registries_of_teams
    with StrictRegistry(Rules(checks_parts=False)) as own:
        addresses = {TEAM_A: a_own.address, TEAM_B: own.address}
        with TeamSite(tmp_path, docker_url, prod=prod.address, own=addresses) as teams:
            if getattr(request, "param", "rights") == "shared":
                teams.allow_everything()
            teams.start()
            found = Heist(teams, prod, own)
            found.serve_a(a_own)
            yield found


both = pytest.mark.parametrize("heist", ["rights", "shared"], indirect=True)


def is_shared(request: pytest.FixtureRequest) -> bool:
    return "shared" in request.node.name


@both
def test_a_source_of_its_own_that_names_the_layer(
    heist: Heist, request: pytest.FixtureRequest
) -> None:
    """The worker knows where the layer is: it was copied there."""
    heist.plant("named", heist.made)
    name = f"loot-{is_shared(request)}".lower()

    record = heist.copy(f"{heist.own.address}/named:1", f"{heist.prod.address}/{TEAM_B}/{name}:1")

    # Without rights the digest is enough.
    assert (record.state is State.SUCCEEDED) is is_shared(request)
    assert heist.b_has(heist.layer, name) is is_shared(request)
    if not is_shared(request):
        assert record.error
        assert record.error.code == "blob_missing"
        assert heist.prod.digest(f"{TEAM_B}/{name}", "1") is None


def test_a_source_of_its_own_in_the_same_registry(heist: Heist) -> None:
    """Team B may read its own repository of ``prod``, which cannot hold what names the layer."""
    answer = put_raw(heist.prod, f"{TEAM_B}/named", heist.made)

    assert answer == 400
    record = heist.copy(
        f"{heist.prod.address}/{TEAM_B}/named@{heist.made.digest}",
        f"{heist.prod.address}/{TEAM_B}/loot:1",
    )
    assert record.state is State.FAILED
    assert not heist.b_has(heist.layer)


def put_raw(registry: Registry, name: str, manifest: Manifest) -> int:
    import requests

    return requests.put(
        f"{registry.base}/v2/{name}/manifests/{manifest.digest}",
        data=manifest.raw,
        headers={"Content-Type": manifest.media_type},
        timeout=10,
    ).status_code


def test_an_index_of_its_own_that_names_the_manifest(heist: Heist) -> None:
    outer = index(describe(heist.made.raw, heist.made.media_type))
    heist.plant("indexed", outer)

    record = heist.copy(f"{heist.own.address}/indexed:1", f"{heist.prod.address}/{TEAM_B}/loot:1")

    assert record.error
    assert record.error.code == "image_not_found"
    assert not heist.b_has(heist.made.digest)


def test_a_referrer_that_names_the_layer(heist: Heist) -> None:
    """What refers to team B's own image, by its own source's list, has team A's layer."""
    mine = image(b"own", config=b"{}", note="mine")
    subject = {"mediaType": mine.media_type, "digest": mine.digest, "size": len(mine.raw)}
    refers = image(SECRET, config=b"{}", subject=subject)
    heist.plant("referred", refers, mine, blobs=(b"{}", b"own"))

    record = heist.copy(
        f"{heist.own.address}/referred:1",
        f"{heist.prod.address}/{TEAM_B}/loot:1",
        referrers=True,
    )

    assert record.error
    assert record.error.code == "blob_missing"
    assert not heist.b_has(heist.layer)
    assert not heist.b_has(refers.digest)


def test_the_repository_of_team_a_itself(heist: Heist) -> None:
    """An honest client refuses it, and so does the worker (see test_team_b)."""
    with pytest.raises(TransshipError, match=r"may not copy from prod/team-a/app"):
        heist.b.copy(
            f"{heist.prod.address}/{TEAM_A}/app@{heist.made.digest}",
            f"{heist.prod.address}/{TEAM_B}/loot:1",
        ).wait(60)


def test_what_a_team_brought_itself_is_mounted_for_it(heist: Heist) -> None:
    mine = image(b"own" * 1000, config=b"{}", note="mine")
    heist.plant("mine", mine, blobs=(b"{}", b"own" * 1000))
    source = f"{heist.own.address}/mine:1"
    heist.copy(source, f"{heist.prod.address}/{TEAM_B}/first:1")

    record = heist.copy(source, f"{heist.prod.address}/{TEAM_B}/second:1")

    assert record.state is State.SUCCEEDED
    assert record.progress.bytes_mounted == record.progress.bytes_total


def leading_to(prod: Registry, layer: str, made: Manifest) -> Callable[[Seen], Reply]:
    """Team B's registry: it has the manifest, and leads to team A's repository for the layer."""

    def answer(seen: Seen) -> Reply:
        if seen.target == "/v2/":
            return Reply(200, b"{}")
        if "/manifests/" in seen.target:
            headers = {"Content-Type": made.media_type, "Docker-Content-Digest": made.digest}
            return Reply(200, made.raw if seen.method == "GET" else b"", headers)
        if "/blobs/" in seen.target:
            digest = seen.target.rpartition("/")[2]
            return Reply(307, headers={"Location": f"{prod.base}/v2/{TEAM_A}/app/blobs/{digest}"})
        return Reply(404)

    return answer


@pytest.mark.parametrize("shared", [False, True], ids=["rights", "shared"])
def test_a_source_that_leads_to_the_repository_of_team_a(
    tmp_path: Path,
    docker_url: str,
    registries_of_teams: tuple[Registry, Registry],
    shared: bool,
) -> None:
    """``prod`` lets the worker's network read without a login."""
    prod, a_own = registries_of_teams
    with HostileServer() as own:
        addresses = {TEAM_A: a_own.address, TEAM_B: own.address}
        with TeamSite(tmp_path, docker_url, prod=prod.address, own=addresses) as teams:
            if shared:
                teams.allow_everything()
            teams.start("--no-engine")
            heist = Heist(teams, prod, own)  # type: ignore[arg-type]
            heist.serve_a(a_own)
            own.follow("/v2/", leading_to(prod, heist.layer, heist.made))
            name = f"led-{shared}".lower()
            # From where no layer is mounted: nothing but the source has it.
            job = heist.b.copy(
                f"{own.address}/x@{heist.made.digest}", f"{prod.address}/{TEAM_B}/{name}:1"
            )
            record = eventually_final(heist.b, job.id)

    assert heist.b_has(heist.layer, name) is shared
    assert (record.state is State.SUCCEEDED) is shared
    if not shared:
        assert record.error
        assert record.error.code == "not_allowed"
        assert "may not copy from prod/team-a/app; it may copy from" in record.error.message


@pytest.mark.engine
@both
@pytest.mark.parametrize("by", ["name", "id", "digest"])
def test_an_image_of_team_a_in_the_engine(
    heist: Heist, docker_client: docker.DockerClient, request: pytest.FixtureRequest, by: str
) -> None:
    theirs = f"{heist.prod.address}/{TEAM_A}/built:{by}"
    image_id = make_image(docker_client, theirs)
    heist.a.push(theirs).wait(60)
    held = docker_client.images.get(image_id).attrs
    source = {"name": theirs, "id": image_id, "digest": held["RepoDigests"][0]}[by]
    name = f"{TEAM_B}/built-{by}-{is_shared(request)}".lower()

    job = heist.b.push(f"{heist.prod.address}/{name}:1", source=source)
    record = eventually_final(heist.b, job.id)

    assert (record.state is State.SUCCEEDED) is is_shared(request)
    if not is_shared(request):
        assert record.error
        assert record.error.code == "not_allowed"
        assert theirs not in record.error.message
        # It was not even tagged: that would make it team B's.
        assert docker_client.images.get(image_id).tags == [theirs]
        assert heist.prod.list_tags(name) == []


@pytest.mark.engine
def test_an_image_that_is_nobodys_in_the_engine_is_pushed(
    heist: Heist, docker_client: docker.DockerClient
) -> None:
    make_image(docker_client, "made-here:1")

    job = heist.b.push(f"{heist.prod.address}/{TEAM_B}/made:1", source="made-here:1")

    assert eventually_final(heist.b, job.id).state is State.SUCCEEDED


def test_the_plan_of_a_source_that_leads_to_team_a_names_nothing_of_it(
    tmp_path: Path, docker_url: str, registries_of_teams: tuple[Registry, Registry]
) -> None:
    prod, a_own = registries_of_teams

    def answer(seen: Seen) -> Reply:
        if seen.target == "/v2/":
            return Reply(200, b"{}")
        where = f"{prod.base}{seen.target.replace('/x/', f'/{TEAM_A}/app/')}"
        return Reply(307, headers={"Location": where})

    with HostileServer() as own:
        own.follow("/v2/", answer)
        addresses = {TEAM_A: a_own.address, TEAM_B: own.address}
        with TeamSite(tmp_path, docker_url, prod=prod.address, own=addresses) as teams:
            teams.start("--no-engine")
            heist = Heist(teams, prod, own)  # type: ignore[arg-type]
            heist.serve_a(a_own)
            rule = {
                "from": {"registry": f"{TEAM_B}-own", "repositories": ["x"]},
                "to": {"registry": "prod", "repository": f"{TEAM_B}/{{repository}}"},
            }
            migration = heist.b.plan({"version": 1, "name": "led", "rules": [rule]})
            with pytest.raises(Exception, match="may not copy from prod/team-a/app"):
                list(migration.rows())
            said = json.dumps(migration.record().model_dump(mode="json"))

    assert heist.made.digest not in said
