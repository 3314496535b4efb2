"""Pushing through a real Docker Engine to real registries."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import docker
import pytest
from pydantic import SecretStr

from tests.support.fixtures import PASSWORD, USER
from tests.support.images.engine_images import make_image
from tests.support.processes import eventually, free_port
from tests.support.proxies.tcp import TcpProxy
from tests.support.scripted_servers.registry import ScriptedRegistry, error
from tests.support.servers.registry import Registry
from tests.support.servers.token_server import TokenServer
from tests.support.workers.recording_control import RecordingControl
from tests.support.workers.single_push import LOGIN, Push, fresh
from transship.errors import (
    Denied,
    DigestMismatch,
    EngineMisconfigured,
    ImageNotFound,
    PushCancelled,
    PushError,
    RegistryUnavailable,
    RegistryUnreachable,
    Stalled,
)
from transship.model.jobs import Step
from transship.model.records import Progress
from transship_worker.credentials.access import Access, Credentials
from transship_worker.transports.engine.client import Engine
from transship_worker.transports.engine_push import DockerPush

pytestmark = [pytest.mark.engine, pytest.mark.registry]

#: Larger than what the kernel's buffers between engine and registry swallow. Unit: bytes.
LARGE = 12_000_000
#: Large enough for several events. Unit: bytes.
MEDIUM = 3_000_000


@pytest.fixture
def slow(plain_registry: Registry) -> Iterator[TcpProxy]:
    """A way to the plain registry that takes ten seconds for a large layer."""
    with TcpProxy(plain_registry.port) as proxy:
        proxy.rate = LARGE / 10
        yield proxy


class Running:
    """A push that runs in a thread of its own."""

    def __init__(self, push: Push) -> None:
        self.push = push
        self.error: PushError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.push.run()
        except PushError as error:
            self.error = error

    def until_bytes_go(self) -> None:
        eventually(lambda: self.push.control.last.bytes_done > 0, what="the first bytes")

    def until_over(self) -> PushError | None:
        self._thread.join(30)
        assert not self._thread.is_alive(), "the push did not end"
        return self.error


# What arrives.


def test_an_image_arrives_and_its_digest_is_the_registrys_own(
    docker_client: docker.DockerClient, engine: Engine, plain_registry: Registry
) -> None:
    push = fresh(docker_client, engine, f"{plain_registry.address}/push/one:1", layers=(900, 800))
    pushed = push.run()
    assert pushed.digest == plain_registry.digest("push/one", "1")
    assert not pushed.skipped
    assert push.control.steps == [Step.PUSHING, Step.VERIFYING]
    assert push.control.last == Progress(
        bytes_done=1700, bytes_total=1700, layers_done=2, layers_total=2
    )
    assert push.control.warnings == []


def test_a_source_is_tagged_as_the_target_first(
    docker_client: docker.DockerClient, engine: Engine, plain_registry: Registry
) -> None:
    image_id = make_image(docker_client, "push-source:1")
    name = f"{plain_registry.address}/push/source:2"
    pushed = Push(engine, name, image_id, source="push-source:1").run()
    assert plain_registry.digest("push/source", "2") == pushed.digest
    assert docker_client.images.get(name).id == image_id


def test_the_same_image_again_is_skipped_and_no_byte_is_sent(
    docker_client: docker.DockerClient, engine: Engine, plain_registry: Registry
) -> None:
    with TcpProxy(plain_registry.port) as proxy:
        push = fresh(docker_client, engine, f"{proxy.address}/push/twice:1", layers=(50_000,))
        first = push.run()
        before = proxy.bytes_up
        push.control = RecordingControl()
        again = push.run()
        assert again.digest == first.digest
        assert again.skipped
        assert push.control.steps == []
        assert proxy.bytes_up - before < 5_000


def test_a_tag_that_moved_away_is_pushed_again(
    docker_client: docker.DockerClient, engine: Engine, plain_registry: Registry
) -> None:
    name = f"{plain_registry.address}/push/back:1"
    first = fresh(docker_client, engine, name)
    digest = first.run().digest
    fresh(docker_client, engine, name).run()
    first.source = first.image_id
    assert first.run().skipped is False
    assert plain_registry.digest("push/back", "1") == digest


def test_two_images_pushed_as_one_reference_at_once_both_report_their_own_digest(
    docker_client: docker.DockerClient, engine: Engine, plain_registry: Registry
) -> None:
    name = f"{plain_registry.address}/push/race:1"
    ids = [make_image(docker_client, f"push-race:{n}", layers=(200_000,)) for n in range(4)]
    pushes = [Push(engine, name, i, source=f"push-race:{n}") for n, i in enumerate(ids)]
    digests: dict[str, str] = {}

    def run(push: Push) -> None:
        digests[push.image_id] = push.run().digest

    threads = [threading.Thread(target=run, args=(push,)) for push in pushes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(set(digests.values())) == len(ids)
    for image_id, digest in digests.items():
        assert plain_registry.manifest("push/race", digest)["config"]["digest"] == image_id


# Logins.


@pytest.mark.parametrize("kind", ["basic", "token"])
def test_the_right_password_pushes(
    kind: str, docker_client: docker.DockerClient, engine: Engine, request: pytest.FixtureRequest
) -> None:
    registry: Registry = request.getfixturevalue(f"{kind}_registry")
    name = f"{registry.address}/push/login:1"
    pushed = fresh(docker_client, engine, name, credentials=LOGIN).run()
    assert registry.digest("push/login", "1") == pushed.digest


@pytest.mark.parametrize("kind", ["basic", "token"])
def test_a_wrong_password_is_denied_and_not_repeated_in_the_message(
    kind: str, docker_client: docker.DockerClient, engine: Engine, request: pytest.FixtureRequest
) -> None:
    registry: Registry = request.getfixturevalue(f"{kind}_registry")
    wrong = Credentials(USER, SecretStr("wr0ng-s3cret"))
    push = fresh(docker_client, engine, f"{registry.address}/push/wrong:1", credentials=wrong)
    with pytest.raises(Denied, match="refused the component's login") as caught:
        push.run()
    assert "wr0ng-s3cret" not in caught.value.message
    assert not caught.value.retryable


@pytest.mark.parametrize("kind", ["basic", "token"])
def test_a_missing_password_is_denied_and_the_message_says_that_there_is_none(
    kind: str, docker_client: docker.DockerClient, engine: Engine, request: pytest.FixtureRequest
) -> None:
    registry: Registry = request.getfixturevalue(f"{kind}_registry")
    push = fresh(docker_client, engine, f"{registry.address}/push/none:1")
    with pytest.raises(Denied, match=r"wants a login .* and the component has none"):
        push.run()


def test_the_login_state_of_the_machine_is_not_used(
    docker_client: docker.DockerClient,
    engine: Engine,
    basic_registry: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import base64

    login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    config = {"auths": {basic_registry.address: {"auth": login}}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    name = f"{basic_registry.address}/push/machine:1"
    push = fresh(docker_client, engine, name)
    # The SDK by itself would log in with it.
    client = docker.APIClient(engine.endpoint.url)
    events = list(client.push(name, stream=True, decode=True))
    client.close()
    assert "aux" in events[-1]
    with pytest.raises(Denied):
        engine.remote_digest(push.image, None)
    other = fresh(docker_client, engine, f"{basic_registry.address}/push/machine:2")
    with pytest.raises(Denied):
        other.run()


def test_a_login_that_may_only_push_pushes_and_warns_that_it_cannot_confirm(
    docker_client: docker.DockerClient, engine: Engine
) -> None:
    with ScriptedRegistry() as registry:
        for method in ("GET", "HEAD"):
            registry.script[f"{method} manifest"] = error(403, "DENIED", "pull is not allowed")
        push = fresh(docker_client, engine, f"{registry.address}/a/b:1", credentials=LOGIN)
        first = push.run()
        assert "could not be asked to confirm" in push.control.warnings[0]
        # Nor can it be skipped the second time.
        assert push.run().digest == first.digest
        assert not push.run().skipped


def test_tokens_that_expire_during_a_push_are_fetched_anew(
    docker_client: docker.DockerClient, engine: Engine, tmp_path: Path
) -> None:
    with (
        TokenServer(tmp_path, {USER: PASSWORD}, lifetime_s=2) as tokens,
        Registry(tokens=tokens) as registry,
        TcpProxy(registry.port) as proxy,
    ):
        proxy.rate = LARGE / 4
        name = f"{proxy.address}/push/expiring:1"
        push = fresh(docker_client, engine, name, layers=(LARGE, 1000), credentials=LOGIN)
        pushed = push.run()
        assert registry.digest("push/expiring", "1") == pushed.digest
        assert len(tokens.requests) >= 3


def test_a_login_that_ended_during_the_push_is_worth_another_attempt(
    docker_client: docker.DockerClient, engine: Engine, tmp_path: Path
) -> None:
    with (
        TokenServer(tmp_path, {USER: PASSWORD}, lifetime_s=2) as tokens,
        Registry(tokens=tokens) as registry,
        TcpProxy(registry.port) as proxy,
    ):
        # The engine believes in its token for a minute, the registry for two seconds.
        tokens.claimed_s = 60
        proxy.rate = LARGE / 4
        ended = datetime.now(UTC) + timedelta(seconds=2)
        credentials = Credentials(USER, SecretStr(PASSWORD), expires_at=ended)
        name = f"{proxy.address}/push/ended:1"
        push = fresh(docker_client, engine, name, layers=(LARGE,), credentials=credentials)
        with pytest.raises(RegistryUnavailable, match="the login ended during the push") as caught:
            push.run()
        assert caught.value.retryable


# What is not there, or not as it was.


def test_an_image_that_does_not_exist_is_not_found(
    engine: Engine, plain_registry: Registry
) -> None:
    name = f"{plain_registry.address}/push/absent:1"
    with pytest.raises(ImageNotFound, match=f"image {name} is not in engine build-7"):
        Push(engine, name, f"sha256:{'0' * 64}").run()


def test_a_source_that_was_deleted_meanwhile_is_not_found(
    engine: Engine, plain_registry: Registry
) -> None:
    name = f"{plain_registry.address}/push/gone:1"
    with pytest.raises(ImageNotFound, match=r"image train:42 .* is no longer in engine build-7"):
        Push(engine, name, f"sha256:{'0' * 64}", source="train:42").run()


def test_a_target_that_was_rebuilt_since_the_claim_is_not_pushed(
    docker_client: docker.DockerClient, engine: Engine, plain_registry: Registry
) -> None:
    name = f"{plain_registry.address}/push/rebuilt:1"
    push = fresh(docker_client, engine, name)
    make_image(docker_client, name)
    with pytest.raises(DigestMismatch, match="was rebuilt since the job was claimed"):
        push.run()
    assert plain_registry.digest("push/rebuilt", "1") is None


def test_a_reference_tagged_anew_during_the_push_is_no_success(
    docker_client: docker.DockerClient, engine: Engine, plain_registry: Registry
) -> None:
    name = f"{plain_registry.address}/push/retagged:1"
    push = fresh(docker_client, engine, name)

    def retag(step: Step) -> None:
        if step is Step.PUSHING:
            make_image(docker_client, name)

    push.control.at_step = retag
    with pytest.raises(DigestMismatch, match="was tagged anew while it was pushed"):
        push.run()


def test_a_tag_that_somebody_moved_after_the_push_is_a_warning(
    docker_client: docker.DockerClient, engine: Engine, plain_registry: Registry
) -> None:
    other = fresh(docker_client, engine, f"{plain_registry.address}/push/moved:other")
    other_digest = other.run().digest
    manifest = plain_registry.get(f"push/moved/manifests/{other_digest}", accept="*/*")
    push = fresh(docker_client, engine, f"{plain_registry.address}/push/moved:1")

    def move(step: Step) -> None:
        if step is Step.VERIFYING:
            media_type = manifest.headers["Content-Type"]
            plain_registry.put_manifest("push/moved", "1", manifest.content, media_type)

    push.control.at_step = move
    pushed = push.run()
    assert pushed.digest != other_digest
    assert len(push.control.warnings) == 1
    assert f"the registry now has {other_digest}" in push.control.warnings[0]


def test_a_registry_that_does_not_have_the_tag_afterwards_did_not_take_it(
    docker_client: docker.DockerClient, engine: Engine
) -> None:
    with ScriptedRegistry() as registry:
        push = fresh(docker_client, engine, f"{registry.address}/a/b:1")
        with pytest.raises(RegistryUnavailable, match="does not have the tag") as caught:
            push.run()
    assert caught.value.retryable


# A network and an engine that fail.


def test_a_port_where_nobody_listens_is_unreachable(
    docker_client: docker.DockerClient, engine: Engine
) -> None:
    push = fresh(docker_client, engine, f"127.0.0.1:{free_port()}/a/b:1")
    with pytest.raises(RegistryUnreachable, match="connection refused") as caught:
        push.run()
    assert caught.value.retryable


def test_a_registry_that_the_engine_does_not_list_as_insecure_is_named_before_any_byte(
    docker_client: docker.DockerClient, engine: Engine
) -> None:
    push = fresh(docker_client, engine, "registry.lan:5000/a/b:1")
    push.access = Access(insecure=True)
    with pytest.raises(EngineMisconfigured, match=r"build-7 does not list registry\.lan:5000"):
        push.run()
    assert push.control.steps == []


def test_a_registry_that_dies_during_a_push_and_comes_back_gets_the_image(
    docker_client: docker.DockerClient, engine: Engine
) -> None:
    # The engine tries again by itself after 5 s, 10 s, …: that is its budget, not ours.
    with Registry() as registry, TcpProxy(registry.port) as proxy:
        proxy.rate = LARGE / 3
        push = fresh(docker_client, engine, f"{proxy.address}/push/dies:1", layers=(LARGE,))
        running = Running(push)
        running.until_bytes_go()
        registry.kill9()
        proxy.cut()
        registry.start()
        proxy.rate = None
        assert running.until_over() is None
        assert registry.digest("push/dies", "1") is not None
        seen = push.control.seen
    assert [p.bytes_done for p in seen] == sorted(p.bytes_done for p in seen)


def test_progress_is_sane_for_two_large_layers(
    docker_client: docker.DockerClient, engine: Engine, plain_registry: Registry
) -> None:
    name = f"{plain_registry.address}/push/layers:1"
    push = fresh(docker_client, engine, name, layers=(MEDIUM, 2 * MEDIUM))
    push.run()
    seen = push.control.seen
    assert seen[-1] == Progress(
        bytes_done=3 * MEDIUM, bytes_total=3 * MEDIUM, layers_done=2, layers_total=2
    )
    for before, after in itertools.pairwise(seen):
        assert before != after
        assert before.bytes_done <= after.bytes_done <= after.bytes_total
        assert before.layers_done <= after.layers_done <= after.layers_total


# Stopping.


def test_a_cancelled_push_ends_promptly_and_the_engine_stops_sending(
    docker_client: docker.DockerClient, engine: Engine, plain_registry: Registry, slow: TcpProxy
) -> None:
    running = Running(
        fresh(docker_client, engine, f"{slow.address}/push/cancelled:1", layers=(LARGE,))
    )
    running.until_bytes_go()
    running.push.control.stop(PushCancelled("cancelled"))
    assert isinstance(running.until_over(), PushCancelled)
    # What the kernel holds still goes; then the upload is broken off, without its end.
    slow.rate = None
    eventually(lambda: slow.open_connections == 0, what="the end of the upload")
    assert slow.bytes_up < LARGE
    assert plain_registry.digest("push/cancelled", "1") is None


def test_a_push_that_hangs_ends_promptly_with_the_reason_it_was_stopped_for(
    docker_client: docker.DockerClient, engine: Engine, slow: TcpProxy
) -> None:
    running = Running(fresh(docker_client, engine, f"{slow.address}/push/hung:1", layers=(LARGE,)))
    running.until_bytes_go()
    slow.hang()
    running.push.control.stop(Stalled("no progress for 180 s"))
    assert isinstance(running.until_over(), Stalled)


def test_a_registry_that_never_answers_a_question_does_not_hold_a_cancelled_job(
    docker_client: docker.DockerClient, engine: Engine, plain_registry: Registry
) -> None:
    with TcpProxy(plain_registry.port) as proxy:
        push = fresh(docker_client, engine, f"{proxy.address}/push/silent:1")
        push.run()
        proxy.hang()
        before = proxy.connections
        push.control = RecordingControl()
        running = Running(push)
        # It asks whether the tag is there already.
        eventually(lambda: proxy.connections > before, what="a question to the registry")
        push.control.stop()
        assert isinstance(running.until_over(), PushCancelled)


def test_a_job_that_waits_for_another_push_of_its_reference_can_be_cancelled(
    docker_client: docker.DockerClient, engine: Engine, slow: TcpProxy
) -> None:
    name = f"{slow.address}/push/waiting:1"
    first = Running(fresh(docker_client, engine, name, layers=(LARGE,)))
    first.until_bytes_go()
    waiting = Running(Push(engine, name, first.push.image_id))
    eventually(lambda: waiting.push.control.alive_count > 0, what="the second job's wait")
    waiting.push.control.stop()
    assert isinstance(waiting.until_over(), PushCancelled)
    assert waiting.push.control.steps == []
    first.push.control.stop()
    assert isinstance(first.until_over(), PushCancelled)


def test_a_job_stopped_before_the_push_sends_nothing(
    docker_client: docker.DockerClient, engine: Engine, plain_registry: Registry
) -> None:
    push = fresh(docker_client, engine, f"{plain_registry.address}/push/never:1")
    push.control.stop()
    with pytest.raises(PushCancelled):
        push.run()
    assert plain_registry.digest("push/never", "1") is None


def test_an_outcome_is_there_only_after_a_success(
    docker_client: docker.DockerClient, engine: Engine
) -> None:
    push = fresh(docker_client, engine, f"127.0.0.1:{free_port()}/a/b:1")
    transport = DockerPush(engine, image_id=push.image_id, source=None, control=RecordingControl())
    with pytest.raises(RegistryUnreachable):
        transport.push(push.image, credentials=None, access=Access())
    assert transport.outcome is None
