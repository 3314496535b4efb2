"""Bearer tokens that die sooner than their server says."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import SecretStr

from tests.support.strict_registry.registry import Rules, StrictRegistry, TokenRules
from tests.support.strict_registry.requests import DATA, layer, put_blob, put_manifest
from transship.errors import Denied
from transship_worker.credentials.access import Credentials
from transship_worker.oci import manifests
from transship_worker.oci.endpoint import Endpoint
from transship_worker.oci.pool import ClientPool

LOGIN = Credentials("mover", SecretStr("open sesame"))


async def test_when_one_token_died_the_others_of_its_age_are_not_tried(pool: ClientPool) -> None:
    with StrictRegistry() as registry:
        put_blob(registry)
        put_manifest(registry, "v1", layers=[layer()])
        # Each is good for two requests, and said to be for five minutes.
        registry.rules = Rules(tokens=TokenRules(users={"mover": "open sesame"}, requests=2))

        client = pool.client(Endpoint(registry.address, endpoint=registry.base), LOGIN)
        reading = client.repository("a/b")
        writing = client.repository("a/b", writing=True)
        for side in (reading, reading, writing, writing):
            assert await manifests.head(side, "v1") is not None
        # Both tokens are spent by now.
        assert registry.counts.tokens == 2
        assert await manifests.head(reading, "v1") is not None
        assert registry.counts.tokens == 3


async def test_many_requests_whose_token_died_share_the_next_one(pool: ClientPool) -> None:
    with StrictRegistry() as registry:
        put_blob(registry)
        put_manifest(registry, "v1", layers=[layer()])
        registry.rules = Rules(tokens=TokenRules(users={"mover": "open sesame"}, requests=20))

        client = pool.client(Endpoint(registry.address, endpoint=registry.base), LOGIN)
        side = client.repository("a/b")
        for _ in range(20):
            await manifests.head(side, "v1")
        heads = await asyncio.gather(*(manifests.head(side, "v1") for _ in range(10)))
        assert {head is not None for head in heads} == {True}
        assert registry.counts.tokens == 2


async def test_a_fresh_token_that_is_refused_is_not_fetched_again(pool: ClientPool) -> None:
    with StrictRegistry() as registry:
        put_blob(registry, DATA)
        rights = {"mover": frozenset({"push"})}
        tokens = TokenRules(users={"mover": "open sesame"}, rights=rights)
        registry.rules = Rules(tokens=tokens)

        client = pool.client(Endpoint(registry.address, endpoint=registry.base), LOGIN)
        with pytest.raises(Denied):
            await manifests.head(client.repository("a/b"), "v1")
        assert registry.counts.tokens == 1
