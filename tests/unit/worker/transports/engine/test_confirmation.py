"""What counts as the job's image at the registry, for each kind of store.

The engine and the registry are scripted: they answer as Docker Engine 20.10, 26.1 and 28.5 and
Podman 5.4 and 5.8 were seen to answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from tests.support.workers.recording_control import RecordingControl
from transship.errors import (
    Denied,
    DigestMismatch,
    EngineUnavailable,
    ImageNotFound,
    PushError,
    RateLimited,
    RegistryUnavailable,
    RegistryUnreachable,
)
from transship.model.migration.platforms import Platform
from transship.model.references import ImageReference
from transship_worker.credentials.access import Access, Credentials
from transship_worker.oci.descriptors import OCI_MANIFEST, Descriptor, Manifest
from transship_worker.transports.engine.calls import LookupMissing
from transship_worker.transports.engine.client import Engine
from transship_worker.transports.engine.confirmation import Confirmation, Target
from transship_worker.transports.engine.connection import Line
from transship_worker.transports.engine.events import PushStream
from transship_worker.transports.engine.identity import HeldImage, HeldManifest, Store

IMAGE = ImageReference.parse("127.0.0.1:5000/a/b:1")
CONFIG, OTHER_CONFIG = (f"sha256:{char * 64}" for char in "cd")
PUSHED, OTHER, INDEX = (f"sha256:{char * 64}" for char in "123")
AMD, ARM = Platform.parse("linux/amd64"), Platform.parse("linux/arm64")
LISTED = (
    HeldManifest(PUSHED, AMD, available=True, is_image=True),
    HeldManifest(OTHER, ARM, available=False, is_image=True),
    HeldManifest("sha256:" + "9" * 64, None, available=True, is_image=False),
)
LAYERS = tuple(f"sha256:{n:064x}" for n in range(2))


@dataclass
class ScriptedEngine:
    """Answers of an engine; an error is raised."""

    tag: str | PushError | LookupMissing | None = PUSHED
    listed: tuple[HeldManifest, ...] | None = None
    repo_digests: tuple[str, ...] = ()
    label: str = "build-7"
    looked: int = 0

    def look_up(self, *_: Any) -> str | None:
        self.looked += 1
        if isinstance(self.tag, PushError | LookupMissing):
            raise self.tag
        return self.tag

    def manifests(self, *_: Any) -> tuple[HeldManifest, ...] | None:
        return self.listed

    def inspect(self, _: Any, name: str) -> Mapping[str, Any]:
        return {"Id": name, "RepoDigests": [f"{IMAGE.name}@{one}" for one in self.repo_digests]}


@dataclass
class ScriptedReader:
    """A registry as the worker sees it: a tag, and manifests by digest with their configs."""

    tag: str | PushError | None = PUSHED
    configs: dict[str, str] = field(default_factory=lambda: {PUSHED: CONFIG, OTHER: OTHER_CONFIG})
    layers: int = len(LAYERS)
    error: PushError | None = None
    asked: int = 0

    def digest(self, *_: Any) -> str | None:
        self.asked += 1
        if isinstance(self.tag, PushError):
            raise self.tag
        return self.tag

    def manifest(
        self, image: ImageReference, digest: str, credentials: Credentials | None, access: Access
    ) -> Manifest:
        self.asked += 1
        if self.error is not None:
            raise self.error
        config = Descriptor("application/vnd.oci.image.config.v1+json", self.configs[digest], 2)
        layers = tuple(Descriptor("layer", diff_id, 1) for diff_id in LAYERS[: self.layers])
        return Manifest(b"{}", OCI_MANIFEST, digest, config=config, layers=layers)


def held(store: Store, *, listed: tuple[str, ...] = ()) -> HeldImage:
    identity = INDEX if store is Store.CONTAINERD else CONFIG
    return HeldImage(identity, store, frozenset(listed), LAYERS, 1000, AMD)


def pushed(digest: str | None, *, instead: bool = False) -> PushStream:
    stream = PushStream()
    stream.digest = digest
    if instead:
        stream.instead_of, stream.selected = INDEX, digest
    return stream


@dataclass
class Asked:
    """A confirmation over scripted parts."""

    engine: ScriptedEngine = field(default_factory=ScriptedEngine)
    reader: ScriptedReader | None = field(default_factory=ScriptedReader)
    control: RecordingControl = field(default_factory=RecordingControl)
    platform: Platform | None = None
    whole: bool = False

    @property
    def confirmation(self) -> Confirmation:
        return Confirmation(
            cast("Engine", self.engine),
            cast("Line", None),
            Target(IMAGE, None, Access(), self.platform, self.whole),
            self.control,
            self.reader,
        )


# After a push.


def test_a_classic_store_that_recorded_the_digest_costs_no_request() -> None:
    asked = Asked(ScriptedEngine(repo_digests=(PUSHED,)))
    assert asked.confirmation.pushed(held(Store.CLASSIC), pushed(PUSHED)) == PUSHED
    assert asked.control.warnings == []
    assert asked.reader is not None
    assert asked.reader.asked == asked.engine.looked == 0


def test_a_classic_store_without_a_record_is_decided_by_the_config_at_the_registry() -> None:
    asked = Asked()
    assert asked.confirmation.pushed(held(Store.CLASSIC), pushed(PUSHED)) == PUSHED
    assert asked.control.warnings == []
    with pytest.raises(DigestMismatch, match="was tagged anew while it was pushed"):
        asked.confirmation.pushed(held(Store.CLASSIC), pushed(OTHER))


@pytest.mark.parametrize("reader", [None, ScriptedReader(error=Denied("no"))], ids=["no", "denied"])
def test_a_classic_store_that_recorded_another_digest_did_not_push_the_image(
    reader: ScriptedReader | None,
) -> None:
    with pytest.raises(DigestMismatch):
        Asked(reader=reader).confirmation.pushed(held(Store.CLASSIC), pushed(PUSHED))


def test_the_containerd_store_pushed_what_it_calls_its_image_by() -> None:
    # A tag alone makes an entry in RepoDigests there: it counts for nothing.
    asked = Asked(ScriptedEngine(repo_digests=(OTHER,)), reader=None)
    assert asked.confirmation.pushed(held(Store.CONTAINERD), pushed(INDEX)) == INDEX
    with pytest.raises(DigestMismatch):
        asked.confirmation.pushed(held(Store.CONTAINERD), pushed(OTHER))
    assert asked.control.warnings == []


def test_one_manifest_instead_of_the_index_is_a_warning_that_names_all_of_it() -> None:
    asked = Asked(ScriptedEngine(listed=LISTED))
    stream = pushed(PUSHED, instead=True)
    assert asked.confirmation.pushed(held(Store.CONTAINERD), stream) == PUSHED
    (warning,) = asked.control.warnings
    assert warning == (
        f"the engine pushed manifest {PUSHED} (linux/amd64) instead of index {INDEX}, of which it "
        "does not hold all; omitted platforms: linux/arm64"
    )


def test_one_manifest_instead_of_the_index_fails_where_all_is_asked_for() -> None:
    asked = Asked(ScriptedEngine(listed=LISTED), whole=True)
    with pytest.raises(ImageNotFound, match=r"omitted platforms: linux/arm64; .* only that"):
        asked.confirmation.pushed(held(Store.CONTAINERD), pushed(PUSHED, instead=True))


def test_a_manifest_that_is_not_of_the_index_is_not_pushed_instead_of_it() -> None:
    asked = Asked(ScriptedEngine(listed=LISTED[1:]))
    with pytest.raises(DigestMismatch):
        asked.confirmation.pushed(held(Store.CONTAINERD), pushed(PUSHED, instead=True))


def test_an_engine_that_lists_no_manifests_is_believed_what_it_pushed_instead() -> None:
    asked = Asked()
    asked.confirmation.pushed(held(Store.CONTAINERD), pushed(PUSHED, instead=True))
    assert "omitted platforms: the others" in asked.control.warnings[0]
    with pytest.raises(DigestMismatch):
        asked.confirmation.pushed(held(Store.CONTAINERD), pushed(PUSHED))


def test_one_platform_is_the_manifest_of_that_platform() -> None:
    asked = Asked(ScriptedEngine(listed=LISTED), platform=AMD)
    assert asked.confirmation.pushed(held(Store.CONTAINERD), pushed(PUSHED)) == PUSHED
    assert asked.control.warnings == []
    with pytest.raises(DigestMismatch):
        asked.confirmation.pushed(held(Store.CONTAINERD), pushed(OTHER))


def test_one_platform_of_an_engine_that_lists_none_is_said_to_be_unconfirmed() -> None:
    asked = Asked(platform=AMD)
    asked.confirmation.pushed(held(Store.CONTAINERD), pushed(PUSHED))
    assert "could not be confirmed" in asked.control.warnings[0]


def test_podman_is_confirmed_by_the_config_at_the_registry_alone() -> None:
    # RepoDigests hold a digest of Podman's own.
    asked = Asked(ScriptedEngine(repo_digests=(OTHER,)))
    assert asked.confirmation.pushed(held(Store.PODMAN), pushed(PUSHED)) == PUSHED
    assert asked.control.warnings == []
    with pytest.raises(DigestMismatch):
        asked.confirmation.pushed(held(Store.PODMAN), pushed(OTHER))


@pytest.mark.parametrize("reader", [None, ScriptedReader(error=Denied("no"))], ids=["no", "denied"])
def test_what_podman_pushed_and_nobody_can_read_is_a_warning(
    reader: ScriptedReader | None,
) -> None:
    asked = Asked(reader=reader)
    assert asked.confirmation.pushed(held(Store.PODMAN), pushed(PUSHED)) == PUSHED
    assert "it could not be confirmed" in asked.control.warnings[0]


@pytest.mark.parametrize("store", list(Store))
def test_an_engine_that_names_no_digest_has_not_failed(store: Store) -> None:
    digest = INDEX if store is Store.CONTAINERD else PUSHED
    asked = Asked(ScriptedEngine(tag=digest))
    assert asked.confirmation.pushed(held(store), pushed(None)) == digest
    assert asked.control.warnings == []


@pytest.mark.parametrize("store", list(Store))
@pytest.mark.parametrize("tag", [None, OTHER], ids=["no tag", "another image"])
def test_without_a_digest_a_tag_that_is_not_the_image_is_another_attempt(
    store: Store, tag: str | None
) -> None:
    asked = Asked(ScriptedEngine(tag=tag, listed=LISTED[:1]))
    with pytest.raises(EngineUnavailable, match="without a digest, and the") as caught:
        asked.confirmation.pushed(held(store), pushed(None))
    assert caught.value.retryable


def test_without_a_digest_and_without_an_answer_nothing_succeeded() -> None:
    asked = Asked(ScriptedEngine(tag=Denied("pull is not allowed")))
    with pytest.raises(Denied, match=r"without a digest, and .* could not be asked: pull is not"):
        asked.confirmation.pushed(held(Store.CLASSIC), pushed(None))
    unread = Asked(reader=ScriptedReader(error=Denied("no")))
    with pytest.raises(EngineUnavailable, match="it is not known whether"):
        unread.confirmation.pushed(held(Store.PODMAN), pushed(None))


# The tag.


def test_an_engine_without_a_lookup_leaves_the_tag_to_the_worker() -> None:
    asked = Asked(ScriptedEngine(tag=LookupMissing("no such call")))
    asked.confirmation.confirm_tag(PUSHED)
    assert asked.control.warnings == []
    asked.confirmation.confirm_tag(OTHER)
    assert f"the registry now has {PUSHED}" in asked.control.warnings[0]


def test_a_look_up_that_is_refused_for_its_rate_is_made_by_the_worker() -> None:
    asked = Asked(ScriptedEngine(tag=RateLimited("429")))
    asked.confirmation.confirm_tag(PUSHED)
    assert asked.control.warnings == []
    assert asked.reader is not None
    assert asked.reader.asked == 1


@pytest.mark.parametrize(
    "reader", [None, ScriptedReader(tag=RegistryUnreachable("no route"))], ids=["no", "unreachable"]
)
def test_a_tag_that_nobody_can_look_up_is_a_warning(reader: ScriptedReader | None) -> None:
    asked = Asked(ScriptedEngine(tag=LookupMissing("no such call")), reader=reader)
    asked.confirmation.confirm_tag(PUSHED)
    assert "could not be asked to confirm it" in asked.control.warnings[0]


@pytest.mark.parametrize("engine", [None, LookupMissing("no such call")], ids=["engine", "worker"])
def test_a_tag_that_the_registry_does_not_have_was_not_pushed(
    engine: LookupMissing | None,
) -> None:
    asked = Asked(ScriptedEngine(tag=engine), reader=ScriptedReader(tag=None))
    with pytest.raises(RegistryUnavailable, match="does not have the tag") as caught:
        asked.confirmation.confirm_tag(PUSHED)
    assert caught.value.retryable


# Before a push.


@pytest.mark.parametrize(
    ("store", "listed", "became", "present"),
    [
        (Store.CLASSIC, (PUSHED,), None, True),
        (Store.CLASSIC, (OTHER,), None, False),
        (Store.CLASSIC, (), PUSHED, True),
        # An entry that a tag made, or one of Podman's own, proves nothing.
        (Store.CONTAINERD, (PUSHED,), None, False),
        (Store.PODMAN, (), None, True),
        (Store.PODMAN, (OTHER,), OTHER, True),
    ],
)
def test_what_the_tag_holds_already_is_known_by_the_stores_own_identity(
    store: Store, listed: tuple[str, ...], became: str | None, present: bool
) -> None:
    found = Asked().confirmation.present(held(store, listed=listed), became)
    assert found == (PUSHED if present else None)


def test_the_containerd_store_finds_its_index_under_the_tag() -> None:
    asked = Asked(ScriptedEngine(tag=INDEX))
    assert asked.confirmation.present(held(Store.CONTAINERD), None) == INDEX
    one = Asked(ScriptedEngine(tag=INDEX, listed=LISTED), platform=AMD)
    assert one.confirmation.present(held(Store.CONTAINERD), None) is None
    one.engine.tag = PUSHED
    assert one.confirmation.present(held(Store.CONTAINERD), None) == PUSHED


def test_a_classic_store_that_never_pushed_there_asks_nobody() -> None:
    asked = Asked()
    assert asked.confirmation.present(held(Store.CLASSIC), None) is None
    assert asked.reader is not None
    assert asked.engine.looked == asked.reader.asked == 0


@pytest.mark.parametrize(
    "reader",
    [
        ScriptedReader(tag=None),
        ScriptedReader(tag=OTHER),
        # The config alone, without a layer for each diff id, is no image.
        ScriptedReader(layers=1),
        ScriptedReader(tag=RegistryUnreachable("no route")),
        ScriptedReader(error=Denied("no")),
        None,
    ],
    ids=["no tag", "another image", "a layer less", "unreachable", "denied", "no reader"],
)
def test_with_podman_an_image_is_not_there_unless_the_registry_shows_it(
    reader: ScriptedReader | None,
) -> None:
    assert Asked(reader=reader).confirmation.present(held(Store.PODMAN), None) is None


@pytest.mark.parametrize("error", [Denied("no"), LookupMissing("no such call")])
def test_a_registry_that_tells_the_engine_nothing_is_pushed_to(
    error: PushError | LookupMissing,
) -> None:
    asked = Asked(ScriptedEngine(tag=error), reader=None)
    assert asked.confirmation.present(held(Store.CLASSIC, listed=(PUSHED,)), None) is None


# All platforms.


def test_a_part_of_an_index_is_refused_before_the_push_where_all_is_asked_for() -> None:
    asked = Asked(ScriptedEngine(listed=LISTED), whole=True)
    with pytest.raises(ImageNotFound, match="linux/arm64 missing; pull them"):
        asked.confirmation.check_whole(held(Store.CONTAINERD))


@pytest.mark.parametrize("listed", [None, LISTED[:1]], ids=["not told", "all there"])
def test_an_index_is_pushed_where_nothing_is_known_to_be_missing(
    listed: tuple[HeldManifest, ...] | None,
) -> None:
    asked = Asked(ScriptedEngine(listed=listed), whole=True)
    asked.confirmation.check_whole(held(Store.CONTAINERD))
    asked.engine.listed = LISTED
    asked.whole = False
    asked.confirmation.check_whole(held(Store.CONTAINERD))
