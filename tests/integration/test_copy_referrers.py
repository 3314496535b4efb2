"""Signatures, SBOMs and attestations go along with their image, between two real registries.

distribution 2.8 has no referrers API: both sides keep lists under the fallback tag.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.support.fleet.alone_leads import AloneLeads
from tests.support.images.registry_images import (
    WatchedControl,
    delete_manifest,
    entry,
    image,
    index,
    noise,
    put_image,
    repository,
)
from tests.support.images.two_registries import repository_of
from tests.support.servers.registry import Registry
from tests.support.strict_registry.registry import Rules, StrictRegistry
from transship.model.migration.platforms import Platform
from transship.model.migration.specification import OnConflict
from transship_worker.handlers.migration.readers import listed_referrers
from transship_worker.migrate.port import NamedReferrer
from transship_worker.oci import manifests, referrers
from transship_worker.oci.client import Repository
from transship_worker.oci.descriptors import Manifest
from transship_worker.oci.pool import ClientPool
from transship_worker.oci.referrers import fallback_tag
from transship_worker.transports.copy.image import copy_image
from transship_worker.transports.copy.port import Copied, CopyTask
from transship_worker.transports.copy.registry import RegistryRepository

pytestmark = pytest.mark.registry


class Sides:
    """One repository at both registries."""

    def __init__(self, pool: ClientPool, registries: tuple[Registry, Registry], name: str) -> None:
        self.source, self.target = (
            repository(pool, registry.address, name) for registry in registries
        )
        self.leads = AloneLeads()
        self.control = WatchedControl()
        self._copies = 0

    async def copy(self, *tags: str, **task: Any) -> Copied:
        """Copy ``v1`` with what refers to it."""
        self.control = WatchedControl()
        self._copies += 1
        return await copy_image(
            CopyTask("v1", tags or ("v1",), referrers=True, **task),
            RegistryRepository(self.source),
            RegistryRepository(self.target),
            self.leads,
            self.control,
            f"copy{self._copies}",
        )


@pytest.fixture
def side(
    pool: ClientPool, registries: tuple[Registry, Registry], request: pytest.FixtureRequest
) -> Sides:
    """Both registries, with a repository for this test alone."""
    return Sides(pool, registries, repository_of(request))


async def refer(source: Repository, subject: Manifest, kind: str) -> Manifest:
    """Put an artifact of this kind that refers to another manifest, as a client does."""
    content = kind.encode() + subject.digest.encode()
    made = image(
        content,
        kind="application/vnd.oci.empty.v1+json",
        artifactType=kind,
        subject=subject.descriptor.as_json(),
    )
    await put_image(source, made, content, b"{}")
    await referrers.attach(source, made)
    return made


async def sign(source: Repository, subject: Manifest, suffix: str = "sig") -> str:
    """Put a manifest where cosign puts it; its tag."""
    content = noise(500, subject.digest + suffix)
    tag = f"{fallback_tag(subject.digest)}.{suffix}"
    await put_image(source, image(content), content, b"{}", tag=tag)
    return tag


async def two_platforms(source: Repository) -> dict[str, Manifest]:
    """An index of two images, at the source."""
    found = {}
    for platform in ("linux/amd64", "linux/arm64"):
        layer = noise(3_000, f"{source}{platform}")
        found[platform] = await put_image(source, image(layer), layer, b"{}")
    entries = (entry(one, platform) for platform, one in found.items())
    found["index"] = await put_image(source, index(*entries), tag="v1")
    return found


async def test_what_refers_to_an_index_and_its_images_goes_along(side: Sides) -> None:
    made = await two_platforms(side.source)
    sbom = await refer(side.source, made["linux/amd64"], "application/spdx+json")
    of_sbom = await refer(side.source, sbom, "application/vnd.example.signature")
    of_index = await refer(side.source, made["index"], "application/vnd.example.signature")
    tags = [await sign(side.source, made["index"]), await sign(side.source, sbom, "att")]
    copied = await side.copy()
    assert copied == Copied(made["index"].digest, tagged=("v1",))
    for subject, referrer in (
        (made["linux/amd64"], sbom),
        (sbom, of_sbom),
        (made["index"], of_index),
    ):
        there = await referrers.referrers(side.target, subject.digest)
        assert [one.digest for one in there.manifests] == [referrer.digest]
        assert (await manifests.get(side.target, referrer.digest)).raw == referrer.raw
    for tag in tags:
        ours, theirs = [await manifests.get(at, tag) for at in (side.source, side.target)]
        assert ours.raw == theirs.raw
    assert not side.control.warnings
    again = await side.copy()
    assert again == Copied(made["index"].digest, skipped=True)


async def test_a_signature_that_came_later_is_all_that_is_copied(side: Sides) -> None:
    made = await two_platforms(side.source)
    await side.copy()
    late = await refer(side.source, made["index"], "application/vnd.example.signature")
    copied = await side.copy()
    assert copied == Copied(made["index"].digest)
    # The empty config is there already.
    assert side.control.bytes["moved"] == late.layers[0].size
    there = await referrers.referrers(side.target, made["index"].digest)
    assert [one.digest for one in there.manifests] == [late.digest]


async def test_a_list_that_was_not_finished_is_finished(side: Sides) -> None:
    made = await two_platforms(side.source)
    sbom = await refer(side.source, made["index"], "application/spdx+json")
    # A copy that ended between the manifest and the list.
    await put_image(
        side.target, sbom, f"application/spdx+json{made['index'].digest}".encode(), b"{}"
    )
    await side.copy()
    there = await referrers.referrers(side.target, made["index"].digest)
    assert [one.digest for one in there.manifests] == [sbom.digest]


async def test_what_refers_to_a_platform_that_is_left_out_is_named(side: Sides) -> None:
    made = await two_platforms(side.source)
    kept = await refer(side.source, made["linux/amd64"], "application/spdx+json")
    lost = await refer(side.source, made["linux/arm64"], "application/spdx+json")
    of_index = await refer(side.source, made["index"], "application/spdx+json")
    await side.copy(platforms=(Platform.parse("linux/amd64"),))
    assert await manifests.head(side.target, kept.digest) is not None
    told = "\n".join(side.control.warnings)
    for one in (lost, of_index):
        assert await manifests.head(side.target, one.digest) is None
        assert one.digest in told
    assert kept.digest not in told


async def test_a_listed_referrer_that_is_gone_is_named(side: Sides) -> None:
    made = await two_platforms(side.source)
    gone = await refer(side.source, made["index"], "application/spdx+json")
    await delete_manifest(side.source, gone.digest)
    copied = await side.copy()
    assert copied.tagged == ("v1",)
    assert any(gone.digest in one for one in side.control.warnings)


async def test_a_listed_referrer_that_names_no_subject_is_named(side: Sides) -> None:
    made = await two_platforms(side.source)
    odd = await put_image(side.source, image(b"odd"), b"odd", b"{}")
    await put_image(side.source, index(entry(odd)), tag=fallback_tag(made["index"].digest))
    await side.copy()
    assert await manifests.head(side.target, odd.digest) is not None
    (warning,) = side.control.warnings
    assert odd.digest in warning
    assert "names no subject; it is copied, but the target does not list it" in warning


@pytest.mark.parametrize("policy", [OnConflict.OVERWRITE, OnConflict.SKIP])
async def test_another_signature_at_the_target_follows_the_policy(
    side: Sides, policy: OnConflict
) -> None:
    made = await two_platforms(side.source)
    tag = await sign(side.source, made["index"])
    old = await put_image(side.target, image(b"theirs"), b"theirs", b"{}", tag=tag)
    new = await manifests.get(side.source, tag)
    await side.copy(on_conflict=policy)
    now = await manifests.get(side.target, tag)
    if policy is OnConflict.SKIP:
        assert now.digest == old.digest
        assert any(tag in one for one in side.control.warnings)
    else:
        assert now.digest == new.digest


@pytest.fixture
def upgraded() -> Iterator[StrictRegistry]:
    """A registry that has no referrers API yet, and gains it in a test."""
    with StrictRegistry(Rules(referrers=False)) as registry:
        yield registry


@pytest.mark.parametrize("target_has_api", [True, False])
async def test_what_only_the_fallback_tag_of_a_registry_with_the_api_lists_arrives(
    pool: ClientPool,
    registries: tuple[Registry, Registry],
    upgraded: StrictRegistry,
    request: pytest.FixtureRequest,
    target_has_api: bool,
) -> None:
    name = repository_of(request)
    before = repository(pool, upgraded.address, name)
    made = await put_image(before, image(b"layer"), b"layer", b"{}", tag="v1")
    old = await refer(before, made, "application/spdx+json")
    upgraded.rules = replace(upgraded.rules, referrers=True, unlisted=frozenset({old.digest}))
    with StrictRegistry(Rules()) as with_api:
        where = with_api.address if target_has_api else registries[1].address
        # A client that did not see the registry before.
        async with ClientPool({}) as later:
            source, target = (
                repository(later, upgraded.address, name),
                repository(later, where, name),
            )
            new = await refer(source, made, "application/vnd.example.signature")
            wanted = {old.digest, new.digest}
            tags = [fallback_tag(made.digest)]

            copied = await copy_image(
                CopyTask("v1", ("v1",), referrers=True),
                RegistryRepository(source),
                RegistryRepository(target),
                AloneLeads(),
                WatchedControl(),
                "copy",
            )

            assert copied.tagged == ("v1",)
            there = await referrers.referrers(target, made.digest)
            assert {one.digest for one in there.manifests} == wanted
            assert there.by_tag is not target_has_api
            # A later run compares the same union.
            theirs = await listed_referrers(source, made.digest, tags)
            ours = await listed_referrers(target, made.digest, [] if target_has_api else tags)
            assert theirs == ours == {NamedReferrer(digest) for digest in wanted}


async def copy_signed(source: Repository, target: Repository) -> None:
    """Copy ``v1`` with what refers to it, over clients that have been used before."""
    await copy_image(
        CopyTask("v1", ("v1",), referrers=True),
        RegistryRepository(source),
        RegistryRepository(target),
        AloneLeads(),
        WatchedControl(),
        "copy",
    )


async def test_a_404_of_the_referrers_api_says_nothing_of_later_requests(
    pool: ClientPool, upgraded: StrictRegistry, request: pytest.FixtureRequest
) -> None:
    name = repository_of(request)
    with StrictRegistry(Rules()) as target_registry:
        source = repository(pool, upgraded.address, name)
        target = repository(pool, target_registry.address, name)
        made = await put_image(source, image(b"layer"), b"layer", b"{}", tag="v1")
        # The client hears of the source, and then of the target, that there is no API.
        await copy_signed(source, target)
        target_registry.rules = replace(target_registry.rules, referrers=False)
        assert (await referrers.referrers(target, made.digest)).by_tag
        for registry in (upgraded, target_registry):
            registry.rules = replace(registry.rules, referrers=True)
        signature = image(b"sig", artifactType="x/sig", subject=made.descriptor.as_json())
        await put_image(source, signature, b"sig", b"{}")

        assert await listed_referrers(source, made.digest, ()) == {NamedReferrer(signature.digest)}
        await copy_signed(source, target)
        assert (await manifests.get(target, signature.digest)).raw == signature.raw


async def test_a_registry_that_does_not_say_oci_subject_gets_the_fallback_tag(
    pool: ClientPool, request: pytest.FixtureRequest
) -> None:
    """distribution-spec 1.1, "Pushing Manifests with Subject": the client must keep the list."""
    name = repository_of(request)
    silent = Rules(oci_subject=False)
    with StrictRegistry(Rules()) as one, StrictRegistry(silent) as other:
        source, target = (repository(pool, at.address, name) for at in (one, other))
        made = await put_image(source, image(b"layer"), b"layer", b"{}", tag="v1")
        signature = image(b"sig", artifactType="x/sig", subject=made.descriptor.as_json())
        await put_image(source, signature, b"sig", b"{}")

        await copy_signed(source, target)

        listed = await manifests.get(target, fallback_tag(made.digest))
        assert [entry.digest for entry in listed.entries] == [signature.digest]
        # What is there already stays out of the tag where the API lists it.
        later = image(b"att", artifactType="x/att", subject=made.descriptor.as_json())
        for at in (source, target):
            await put_image(at, later, b"att", b"{}")
        await copy_signed(source, target)
        listed = await manifests.get(target, fallback_tag(made.digest))
        assert [entry.digest for entry in listed.entries] == [signature.digest]
