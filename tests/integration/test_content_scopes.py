"""Hints and upload leases serve the scope that they came from: nobody gets a layer by its digest.

Team B knows the digest of a layer of team A. It has a registry of its own as a source, whose
manifest names the layer and which does not hold it. Both teams copy to one registry, which mounts.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import redis

from tests.support.fleet.upload_leases import PLACE, digest, workers
from tests.support.images.registry_images import (
    WatchedControl,
    image,
    noise,
    put_blob,
    put_image,
    repository,
)
from tests.support.images.two_registries import Sides
from tests.support.processes import soon
from tests.support.strict_registry.registry import Rules, StrictRegistry
from transship.errors import PushError
from transship.ledger.keys import Keys
from transship.model.references import ImageReference
from transship_worker.fleet.layers import RedisLayers
from transship_worker.fleet.leads import RedisLeads
from transship_worker.fleet.lookup import recall
from transship_worker.fleet.port import Found, KnownLayer, Place, Where, scoped
from transship_worker.fleet.redis import FleetRedis
from transship_worker.oci import blobs, manifests
from transship_worker.oci.descriptors import Descriptor, Manifest
from transship_worker.oci.pool import ClientPool
from transship_worker.transports.copy.image import copy_image
from transship_worker.transports.copy.port import CopyTask
from transship_worker.transports.copy.registry import RegistryRepository
from transship_worker.transports.stream import upload

pytestmark = [pytest.mark.redis, pytest.mark.registry, pytest.mark.timeout(60)]

SECRET = noise(30_000, "a layer of team A")


@pytest.fixture
async def leads(redis_url: str, keys: Keys) -> AsyncIterator[list[RedisLeads]]:
    """The leads of two workers."""
    async with workers(redis_url, keys, 2) as made:
        yield made


@pytest.fixture
def hostile() -> Iterator[StrictRegistry]:
    """Team B's registry, which takes manifests whose blobs it does not have."""
    with StrictRegistry(Rules(checks_parts=False)) as registry:
        yield registry


class Teams:
    """Two teams that copy to one registry."""

    def __init__(self, side: Sides, pool: ClientPool, hostile: StrictRegistry) -> None:
        self.side = side
        self.a, self.b = f"{side.name}/a", f"{side.name}/b"
        self.source = repository(pool, hostile.address, side.name)
        self.registry = side.target().client.endpoint.registry
        self.secret = ""

    async def as_a(self, leads: RedisLeads, scope: str) -> None:
        """Team A copies an image with its layer."""
        config = f"{self.side.name} of team A".encode()
        made = await put_image(
            self.side.source(), image(SECRET, config=config), SECRET, config, tag="v1"
        )
        self.secret = made.layers[0].digest
        await self.side.copy("v1", "v1", to=self.a, leads=leads, scope=scope)

    async def named_by_b(self) -> Manifest:
        """Team B's source names the layer of team A, which it does not hold."""
        config = f"{self.side.name} of team B".encode()
        await put_blob(self.source, config)
        named = image(SECRET, config=config)
        await manifests.put(self.source, "v1", named)
        return named

    async def as_b(self, leads: RedisLeads, scope: str) -> WatchedControl:
        """Team B copies what its source names."""
        control = WatchedControl()
        await copy_image(
            CopyTask("v1", ("v1",), scope=scope),
            RegistryRepository(self.source),
            RegistryRepository(self.side.target(self.b)),
            leads,
            control,
            f"b{scope}",
        )
        return control

    async def b_has_it(self) -> bool:
        """Whether team B's repository holds the layer."""
        return await blobs.head(self.side.target(self.b), self.secret) is not None


@pytest.fixture
def teams(side: Sides, pool: ClientPool, hostile: StrictRegistry) -> Teams:
    """See ``Teams``."""
    return Teams(side, pool, hostile)


async def test_without_scopes_a_digest_is_enough(teams: Teams, leads: list[RedisLeads]) -> None:
    """What the scopes are for: the attack works where all is one team's."""
    await teams.as_a(leads[0], "")
    await teams.named_by_b()

    control = await teams.as_b(leads[1], "")

    assert await teams.b_has_it()
    assert control.bytes["mounted"] == len(SECRET)


async def test_a_hint_of_another_scope_mounts_nothing(
    teams: Teams, leads: list[RedisLeads]
) -> None:
    await teams.as_a(leads[0], "team-a.1")
    await teams.named_by_b()

    with pytest.raises(PushError, match=teams.secret):
        await teams.as_b(leads[1], "team-b.1")

    assert not await teams.b_has_it()
    assert await manifests.head(teams.side.target(teams.b), "v1") is None


async def test_a_hint_of_other_rights_of_the_same_account_mounts_nothing(
    teams: Teams, leads: list[RedisLeads]
) -> None:
    await teams.as_a(leads[0], "gateway.1")
    await teams.named_by_b()

    with pytest.raises(PushError, match=teams.secret):
        await teams.as_b(leads[1], "gateway.2")

    assert not await teams.b_has_it()


async def test_an_upload_of_another_scope_is_not_awaited(
    teams: Teams, leads: list[RedisLeads]
) -> None:
    teams.secret = (await teams.named_by_b()).layers[0].digest
    theirs = Place(teams.registry, teams.a, "team-a.1")
    found = await leads[0].take(theirs, "a", [teams.secret])
    assert found[teams.secret].where is Where.LEAD

    # It ends although team A goes on uploading.
    with pytest.raises(PushError, match=teams.secret):
        await teams.as_b(leads[1], "team-b.1")


async def test_what_a_scope_brought_is_mounted_for_it(
    teams: Teams, leads: list[RedisLeads]
) -> None:
    await teams.as_a(leads[0], "team-a.1")

    await teams.side.copy("v1", "v1", to=f"{teams.a}/more", leads=leads[1], scope="team-a.1")

    said = teams.side.control.bytes
    assert (said["moved"], said["mounted"]) == (0, said["planned"])


async def test_the_source_of_a_copy_is_where_its_own_scope_mounts_from(
    teams: Teams, leads: list[RedisLeads], redis_client: redis.Redis, keys: Keys
) -> None:
    side = teams.side
    config = side.name.encode()
    made = await put_image(side.target(), image(SECRET, config=config), SECRET, config, tag="v1")
    control = WatchedControl()

    await copy_image(
        CopyTask("v1", ("v1",), scope="team-a.1"),
        RegistryRepository(side.target()),
        RegistryRepository(side.target(teams.a)),
        leads[0],
        control,
        "copy",
    )

    assert (control.bytes["moved"], control.bytes["mounted"]) == (0, control.bytes["planned"])
    layer = made.layers[0].digest
    assert not redis_client.exists(keys.blob(teams.registry, layer))
    shared = scoped(teams.registry, "team-a.1")
    assert set(redis_client.zrange(keys.blob(shared, layer), 0, -1)) == {side.name, teams.a}


async def test_a_wrong_hint_is_forgotten_in_its_scope(
    teams: Teams, leads: list[RedisLeads]
) -> None:
    side = teams.side
    layer, config = noise(5_000, side.name), side.name.encode()
    made = await put_image(side.source(), image(layer, config=config), layer, config, tag="v1")
    empty = Place(teams.registry, f"{side.name}/empty", "team-a.1")
    await leads[0].arrived(empty, "liar", [made.layers[0].digest])

    await side.copy("v1", "v1", leads=leads[0], scope="team-a.1")

    await side.has_same("v1")
    third = Place(teams.registry, f"{side.name}/third", "team-a.1")
    found = await leads[0].take(third, "third", [made.layers[0].digest])
    assert found[made.layers[0].digest].repository == side.name


async def test_a_manifest_has_one_writer_in_whatever_scope(leads: list[RedisLeads]) -> None:
    ours, theirs = (Place(PLACE.registry, PLACE.repository, s) for s in ("team-a.1", "team-b.1"))
    blob, name = digest(1), ours.manifest(digest(9))
    lead = {blob: Found(Where.LEAD), name: Found(Where.LEAD)}
    assert await leads[0].take(ours, "one", [blob, name]) == lead
    found = await leads[1].take(theirs, "two", [blob, name])
    assert found == {blob: Found(Where.LEAD), name: Found(Where.WAIT)}
    wait = asyncio.create_task(leads[1].wait(theirs, "two", name))

    await leads[0].arrived(ours, "one", [blob], ended=[name])

    assert await wait == Found(Where.LEAD)


async def until_asked(client: redis.Redis, times: int) -> None:
    """Return once Redis ran so many scripts more."""

    def count() -> int:
        stats: dict[str, dict[str, int]] = client.info("commandstats")
        return sum(
            found["calls"] for name, found in stats.items() if name.startswith("cmdstat_eval")
        )

    before = count()

    async def asked() -> bool:
        return count() >= before + times

    await soon(asked, what=f"{times} scripts")


async def test_one_scope_at_a_time_mounts_a_blob_into_a_repository(
    leads: list[RedisLeads], redis_client: redis.Redis
) -> None:
    """Whatever the rights: distribution 2.8 rewrites the link of a blob that is mounted again."""
    ours, theirs = (Place(PLACE.registry, PLACE.repository, s) for s in ("team-a.1", "team-b.1"))
    blob = digest(1)

    order: list[str] = []

    async def mount() -> None:
        async with leads[1].mounting(theirs, [blob]) as turn:
            # What the other scope mounted is no hint for this one.
            assert turn.mine == {blob}
            order.append("second")

    async with leads[0].mounting(ours, [blob]) as turn:
        assert turn.mine == {blob}
        other = asyncio.create_task(mount())
        # The lock is asked for in another process; some looks of it are waited for.
        await until_asked(redis_client, 3)
        turn.mounted.add(blob)
        order.append("first")
    await other
    assert order == ["first", "second"]


@pytest.mark.parametrize("scopes", [("", ""), ("team-a.1", "team-a.1"), ("team-a.1", "team-b.1")])
async def test_a_layer_that_was_streamed_is_known_to_its_scope(
    teams: Teams, redis_url: str, redis_client: redis.Redis, keys: Keys, scopes: tuple[str, str]
) -> None:
    ours, theirs = scopes
    mine = teams.side.target(teams.a)
    teams.secret = await put_blob(mine, SECRET)
    known = KnownLayer(teams.secret, len(SECRET), 2 * len(SECRET), teams.a)
    name, image_id = ImageReference.parse(f"{teams.registry}/{teams.a}:1"), digest(8)
    async with FleetRedis(redis_url) as fleet:
        memory = RedisLayers(fleet, keys)
        registry = scoped(teams.registry, ours)
        await memory.remember(registry, teams.a, (image_id, digest(9)), {digest(7): known})

        found = await memory.layers(scoped(teams.registry, theirs), [digest(7)])
        there = await upload.present(teams.side.target(teams.b), found)

    is_shared = ours == theirs
    layer = Descriptor(upload.LAYER_TYPE, teams.secret, len(SECRET))
    assert there == ({digest(7): layer} if is_shared else {})
    assert await teams.b_has_it() is is_shared
    became = recall(redis_client, keys, name, image_id, theirs)
    assert became == (digest(9) if is_shared else None)
