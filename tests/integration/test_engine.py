"""A real Docker Engine: found, named, asked, lost and back."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import certifi
import docker
import pytest
from docker.transport.unixconn import UnixHTTPConnection
from pydantic import SecretStr

from tests.support.images.engine_images import make_image
from tests.support.processes import eventually, free_port
from tests.support.proxies.tcp import ConnectProxy, TcpProxy
from tests.support.scripted_servers.registry import Answer, ScriptedRegistry, error
from tests.support.servers.certificates import Authority
from tests.support.servers.dockerd import DockerDaemon
from tests.support.servers.registry import Registry
from tests.support.workers.single_push import LOGIN, Push, fresh
from transship.errors import (
    Denied,
    EngineMisconfigured,
    EngineUnavailable,
    ImageNotFound,
    ImmutableTag,
    PushError,
    RateLimited,
    RegistryUnavailable,
    RegistryUnreachable,
    RepositoryMissing,
)
from transship.model.references import ImageReference, RegistryUri
from transship_worker.credentials.access import Access, Credentials
from transship_worker.transports.engine.client import Engine, connect, find_engine
from transship_worker.transports.engine.describe import describe
from transship_worker.transports.engine.watch import EngineWatch

pytestmark = [pytest.mark.engine]

#: More than the kernel's buffers hold. Unit: bytes.
LARGE = 12_000_000


@pytest.fixture
def own_daemon() -> Iterator[DockerDaemon]:
    """An engine that the test may kill."""
    with DockerDaemon() as daemon:
        yield daemon


def until_cancelled(push: Push) -> threading.Event:
    """Run a push in a thread until the test cancels it; the event says that it has ended."""
    over = threading.Event()

    def run() -> None:
        with pytest.raises(PushError, match="cancelled by a test"):
            push.run()
        over.set()

    threading.Thread(target=run, daemon=True).start()
    return over


# Finding and naming.


def test_an_engine_is_called_as_docker_info_does_or_as_it_was_told(docker_url: str) -> None:
    assert find_engine({"DOCKER_HOST": docker_url}).name == socket.gethostname()
    assert find_engine({"DOCKER_HOST": docker_url}, name="gpu-2").name == "gpu-2"


def test_an_engine_says_which_version_and_store_it_has(
    docker_url: str, docker_client: docker.DockerClient
) -> None:
    found = describe(find_engine({"DOCKER_HOST": docker_url}))
    version = docker_client.version()
    assert (found.product, found.version) == ("Docker", version["Version"])
    assert found.api_version == version["ApiVersion"]
    info = docker_client.info()
    assert found.driver == info["Driver"]
    is_containerd = "io.containerd.snapshotter.v1" in str(info["DriverStatus"])
    assert found.store == ("containerd" if is_containerd else "classic")


def test_a_watch_knows_what_its_engine_is_and_when_it_answers(docker_url: str) -> None:
    with (
        closing(find_engine({"DOCKER_HOST": docker_url})) as engine,
        closing(EngineWatch(engine)) as watch,
    ):
        assert watch.info is None
        watch.start()
        eventually(lambda: watch.info is not None, what="the description of the engine")
        assert watch.info == describe(engine)
        assert watch.problem is None


def test_the_sdks_own_client_is_there_only_when_the_engine_answers(
    docker_url: str, tmp_path: Path
) -> None:
    client = connect({"DOCKER_HOST": docker_url})
    assert client is not None
    with closing(client):
        assert client.ping()
    assert connect({"DOCKER_HOST": f"unix://{tmp_path}/none.sock"}) is None


def test_an_engine_that_is_not_there_is_named_with_its_address(tmp_path: Path) -> None:
    engine = find_engine({"DOCKER_HOST": f"unix://{tmp_path}/none.sock"}, name="build-7")
    with pytest.raises(EngineUnavailable, match="set DOCKER_HOST") as caught:
        engine.ping()
    assert caught.value.message.startswith(
        f"engine build-7 is not there: nothing answers at unix://{tmp_path}/none.sock"
    )
    assert caught.value.retryable


def test_something_that_is_no_engine_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            line, _ = server.accept()
            with line:
                line.recv(1000)
                line.sendall(b"220 mail.example.com ESMTP\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(EngineUnavailable):
            find_engine({"DOCKER_HOST": address, "HOME": "/nowhere"}).ping()
        thread.join(10)


def test_an_engine_is_reached_by_tls(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    Authority(other)
    port = free_port()
    certificate, key = authority.issue("127.0.0.1")
    arguments = ["-H", f"tcp://127.0.0.1:{port}", "--tlsverify", "--tlscacert", str(authority.ca)]
    arguments += ["--tlscert", str(certificate), "--tlskey", str(key)]
    for name, file in (("ca", authority.ca), ("cert", certificate), ("key", key)):
        (tmp_path / f"{name}.pem").write_bytes(file.read_bytes())
    environment = {
        "DOCKER_HOST": f"tcp://127.0.0.1:{port}",
        "DOCKER_TLS_VERIFY": "1",
        "DOCKER_CERT_PATH": str(tmp_path),
    }
    with DockerDaemon(arguments=arguments) as daemon, Registry() as registry:
        # A bundle for other programs of this machine must not stand in for the engine's CA.
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", certifi.where())
        engine = find_engine(environment, name="tls")
        engine.ping()
        stranger = find_engine({**environment, "DOCKER_CERT_PATH": str(other)}, name="stranger")
        with pytest.raises(EngineUnavailable, match="certificate verify failed"):
            stranger.ping()
        with closing(daemon.client()) as client, TcpProxy(registry.port) as proxy:
            fresh(client, engine, f"{registry.address}/tls/one:1").run()
            assert registry.digest("tls/one", "1") is not None
            # A push that waits can be cut here too.
            proxy.rate = LARGE / 10
            push = fresh(client, engine, f"{proxy.address}/tls/two:1", layers=(LARGE,))
            over = until_cancelled(push)
            eventually(lambda: push.control.last.bytes_done > 0, what="the first bytes")
            proxy.hang()
            push.control.stop()
            assert over.wait(20)


# Asking.


def test_an_image_is_found_by_name_and_by_id(
    docker_client: docker.DockerClient, engine: Engine
) -> None:
    image_id = make_image(docker_client, "engine-test:1", "registry.lan:5000/engine/test:2")
    names = ["engine-test:1", "docker.io/library/engine-test:1", "registry.lan:5000/engine/test:2"]
    for name in [*names, image_id, image_id.removeprefix("sha256:")]:
        assert engine.image_id(name) == image_id


@pytest.mark.parametrize(
    "name",
    [
        "engine-test:none",
        f"sha256:{'0' * 64}",
        "../containers/json?x=",
        "../../info",
        "a b",
        "",
        "Über",
    ],
)
def test_what_is_no_image_here_is_not_found(name: str, engine: Engine) -> None:
    with pytest.raises(ImageNotFound, match=r"is not in engine build-7$"):
        engine.image_id(name)


@pytest.mark.registry
def test_a_tags_digest_is_asked_through_the_engine(
    docker_client: docker.DockerClient, engine: Engine, basic_registry: Registry
) -> None:
    name = f"{basic_registry.address}/engine/digest"
    push = fresh(docker_client, engine, f"{name}:1", credentials=LOGIN)
    digest = push.run().digest
    assert engine.remote_digest(push.image, LOGIN) == digest
    assert engine.remote_digest(ImageReference.parse(f"{name}:2"), LOGIN) is None
    absent = ImageReference.parse(f"{basic_registry.address}/engine/absent:1")
    assert engine.remote_digest(absent, LOGIN) is None
    wrong = Credentials("nobody", SecretStr("wr0ng-s3cret"))
    with pytest.raises(Denied) as caught:
        engine.remote_digest(push.image, wrong)
    assert "wr0ng" not in caught.value.message


def test_missing_settings_are_told_from_the_engines_own_info(
    engine: Engine, authority: Authority
) -> None:
    there = RegistryUri.parse("registry.invalid:5000/ml")
    here = RegistryUri.parse("127.0.0.1:5000")
    assert engine.missing_settings(there, Access()) == []
    assert engine.missing_settings(here, Access(insecure=True)) == []
    said = engine.missing_settings(there, Access(insecure=True))
    assert len(said) == 1
    assert "build-7 does not list registry.invalid:5000 under insecure-registries" in said[0]
    # The daemon runs on this machine, and nobody put the tests' CA there.
    said = engine.missing_settings(there, Access(ca=authority.ca))
    assert "/etc/docker/certs.d/registry.invalid:5000/ca.crt" in said[0]
    assert engine.missing_settings(there, Access(ca=authority.ca), only_certain=True) == []


def test_an_engine_that_lists_the_registry_lacks_nothing() -> None:
    with DockerDaemon(arguments=["--insecure-registry", "registry.invalid:5000"]) as daemon:
        engine = find_engine({"DOCKER_HOST": daemon.url})
        registry = RegistryUri.parse("registry.invalid:5000")
        assert engine.missing_settings(registry, Access(insecure=True)) == []


# What registries refuse, as the engine passes it on.


@pytest.mark.parametrize(
    ("place", "answer", "kind"),
    [
        ("PUT manifest", error(403, "DENIED", "no"), Denied),
        ("PUT manifest", error(429, "TOOMANYREQUESTS", "Rate exceeded"), RateLimited),
        ("PUT manifest", Answer(500, b"oops"), RegistryUnavailable),
        (
            "PUT manifest",
            error(400, "TAG_INVALID", "The image tag '1' cannot be overwritten: immutable."),
            ImmutableTag,
        ),
        (
            "PUT manifest",
            error(412, "PRECONDITION", "'b:1' configured as immutable."),
            ImmutableTag,
        ),
        (
            "POST upload",
            error(404, "NAME_UNKNOWN", "The repository with name 'a/b' does not exist"),
            RepositoryMissing,
        ),
        ("POST upload", error(401, "UNAUTHORIZED", "project a not found"), RepositoryMissing),
        ("* *", Answer(429, b"<html>slow down</html>"), RateLimited),
        ("* *", Answer(403, b"<html>no</html>"), Denied),
    ],
)
def test_a_refusal_in_the_stream_has_its_type(
    place: str,
    answer: Answer,
    kind: type[PushError],
    docker_client: docker.DockerClient,
    engine: Engine,
) -> None:
    with ScriptedRegistry() as registry:
        registry.script[place] = answer
        push = fresh(docker_client, engine, f"{registry.address}/a/b:1", credentials=LOGIN)
        with pytest.raises(PushError) as caught:
            push.run()
    assert type(caught.value) is kind


@pytest.mark.registry
def test_what_the_engine_does_not_trust_names_the_setting(authority: Authority) -> None:
    with (
        Registry(tls=authority.issue("registry.lan")) as secure,
        Registry() as plain,
        ConnectProxy({"registry.lan:5000": secure.port, "plain.lan:5000": plain.port}) as proxy,
    ):
        with DockerDaemon(environment={"HTTPS_PROXY": proxy.url}) as daemon:
            engine = find_engine({"DOCKER_HOST": daemon.url}, name="build-7")
            with closing(daemon.client()) as client:
                push = fresh(client, engine, "registry.lan:5000/a/b:1")
                with pytest.raises(EngineMisconfigured, match=r"certs\.d/registry\.lan:5000/ca"):
                    push.run()
                push = fresh(client, engine, "plain.lan:5000/a/b:1")
                with pytest.raises(EngineMisconfigured, match=r"add plain\.lan:5000 under insec"):
                    push.run()
                push = fresh(client, engine, "nowhere.lan:5000/a/b:1")
                with pytest.raises(RegistryUnreachable):
                    push.run()
        trusting = {"HTTPS_PROXY": proxy.url, "SSL_CERT_FILE": str(authority.ca)}
        with DockerDaemon(environment=trusting) as daemon, closing(daemon.client()) as client:
            engine = find_engine({"DOCKER_HOST": daemon.url})
            pushed = fresh(client, engine, "registry.lan:5000/a/b:1").run()
            assert secure.digest("a/b", "1") == pushed.digest


# Losing it.


@pytest.mark.registry
@pytest.mark.parametrize("how", ["kill9", "stop"])
def test_an_engine_that_ends_during_a_push_is_unavailable_and_serves_the_next_attempt(
    how: str, own_daemon: DockerDaemon, plain_registry: Registry
) -> None:
    engine = find_engine({"DOCKER_HOST": own_daemon.url}, name="build-7")
    with TcpProxy(plain_registry.port) as proxy:
        proxy.rate = LARGE / 10
        with closing(own_daemon.client()) as client:
            push = fresh(client, engine, f"{proxy.address}/engine/{how}:1", layers=(LARGE,))

        def end_it() -> None:
            eventually(lambda: push.control.last.bytes_done > 0, what="the first bytes")
            getattr(own_daemon, how)()

        ender = threading.Thread(target=end_it)
        ender.start()
        with pytest.raises(EngineUnavailable, match="engine build-7") as caught:
            push.run()
        assert caught.value.retryable
        ender.join()
        with pytest.raises(EngineUnavailable):
            engine.ping()
        proxy.rate = None
        own_daemon.start()
        assert push.run().digest == plain_registry.digest(f"engine/{how}", "1")


@pytest.mark.registry
def test_a_job_on_a_frozen_engine_can_be_stopped_at_every_step(
    own_daemon: DockerDaemon, plain_registry: Registry
) -> None:
    engine = find_engine({"DOCKER_HOST": own_daemon.url}, name="frozen")
    with closing(own_daemon.client()) as client:
        push = fresh(client, engine, f"{plain_registry.address}/engine/frozen:1")
    own_daemon.freeze()
    over = until_cancelled(push)
    # It waits for the engine's first answer, its version.
    assert not over.wait(0.5)
    push.control.stop()
    assert over.wait(20)
    own_daemon.thaw()
    engine.ping()


def test_a_question_that_is_cut_leaves_no_cut_line_to_the_next(
    engine: Engine, docker_client: docker.DockerClient
) -> None:
    image_id = make_image(docker_client, "registry.example.com/cut:1")
    cuts: list[Callable[[], None]] = []

    @contextmanager
    def cut_at_the_end(cut: Callable[[], None]) -> Iterator[None]:
        cuts.append(cut)
        yield
        cut()

    @contextmanager
    def remembered(cut: Callable[[], None]) -> Iterator[None]:
        cuts.append(cut)
        yield

    assert engine.image_id(image_id, cut_at_the_end) == image_id
    assert engine.image_id(image_id, remembered) == image_id
    # Too late: the line may be another's by now.
    for cut in cuts:
        cut()
    assert engine.image_id(image_id) == image_id


def test_questions_share_a_connection(engine: Engine, docker_client: docker.DockerClient) -> None:
    image_id = make_image(docker_client, "registry.example.com/shared:1")
    opened: list[object] = []
    connect = UnixHTTPConnection.connect

    def counted(self: UnixHTTPConnection) -> None:
        opened.append(self)
        connect(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(UnixHTTPConnection, "connect", counted)
        engine.close()
        for name in (image_id, "registry.example.com/shared:1", image_id):
            assert engine.image_id(name) == image_id
            engine.ping()

    assert len(opened) == 1
