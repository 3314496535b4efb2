"""A Redis that speaks TLS under a private authority: who is let in, and what the others hear."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis
from celery import Celery

from tests.support.servers.certificates import Authority
from tests.support.servers.redis import RedisServer, RedisTls
from transship.cli import main
from transship.ledger.notifications import Bell, Doorbell
from transship.model.jobs import JobId
from transship_config.celery_settings import celery_settings
from transship_config.settings import Settings

pytestmark = pytest.mark.redis

PASSWORD = "planted-redis-pw"
#: Exit status, standard output, standard error.
Ask = Callable[[str], tuple[int, str, str]]
BELL = Bell(JobId("01m85naejdbjas57tr0n"), "push.*", "a:1 → lab")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that signed nothing here."""
    return Authority(tmp_path_factory.mktemp("other"))


@pytest.fixture(scope="module")
def secure(authority: Authority) -> Iterator[RedisServer]:
    """A Redis with a certificate for its address, which asks clients for none."""
    tls = RedisTls(authority.ca, *authority.issue("127.0.0.1"))
    with RedisServer(password=PASSWORD, tls=tls) as server:
        yield server


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run a command on a Redis: exit status, output, and what it complained of."""

    def run(url: str) -> tuple[int, str, str]:
        monkeypatch.setenv("TRANSSHIP_URL", url)
        status = main(["jobs"])
        captured = capsys.readouterr()
        assert PASSWORD not in captured.out + captured.err
        return status, captured.out, captured.err

    return run


def bare(server: RedisServer) -> str:
    """The URL without what it says of TLS."""
    return server.url.partition("?")[0]


def ring(url: str) -> None:
    """Ring as producers and workers do, on a broker connection of its own."""
    bell = Doorbell(Settings.from_environment({"TRANSSHIP_NAMESPACE": "tls"}), url)
    with closing(bell):
        bell.ring([BELL])


def test_the_private_authority_lets_commands_and_bells_in(secure: RedisServer, ask: Ask) -> None:
    assert ask(secure.url)[0] == 0
    assert ask(f"{bare(secure)}?ssl_cert_reqs=none")[0] == 0
    ring(secure.url)
    with closing(secure.client()) as client:
        assert client.llen("tls:celery:push.*") == 1


@pytest.mark.parametrize(
    ("query", "says", "status"),
    [
        ("", "certificate is not trusted .*; let ssl_ca_certs in TRANSSHIP_URL name", 3),
        ("ssl_ca_certs={other}", "trusted .*; {other}, .*does not hold the CA that signed it", 3),
        ("ssl_cert_reqs=required&ssl_ca_certs={other}", "certificate is not trusted", 3),
        ("ssl_check_hostname=false&ssl_ca_certs={other}", "certificate is not trusted", 3),
        ("ssl_ca_certs={nothing}", "ssl_ca_certs=.*none cannot be used: No such file", 2),
        ("ssl_ca_certs={junk}", "ssl_ca_certs=.*it holds no PEM certificate", 2),
        ("ssl_certfile={ca}&ssl_keyfile={junk}", "ssl_certfile=.*cannot be used", 2),
        ("ssl_certfile={ca}&ssl_keyfile={nothing}", "ssl_keyfile=.*No such file", 2),
        ("ssl_certfile={ca}", "ssl_certfile and ssl_keyfile go together", 2),
        ("ssl_cert_reqs=optional", "ssl_cert_reqs must be required or none", 2),
        ("ssl_ca_cert={ca}", "has an unknown option; there are ssl_cert_reqs", 2),
        ("ssl_ca_certs=", "ssl_ca_certs must be the path of a PEM file", 2),
        ("ssl_cert_reqs=none&ssl_cert_reqs=none", "has ssl_cert_reqs twice", 2),
    ],
)
def test_what_does_not_fit_is_one_clear_line(
    secure: RedisServer,
    authority: Authority,
    other: Authority,
    tmp_path: Path,
    ask: Ask,
    query: str,
    says: str,
    status: int,
) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("no certificate")
    places = {"ca": authority.ca, "other": other.ca, "junk": junk, "nothing": tmp_path / "none"}

    ended, _, said = ask(f"{bare(secure)}?{query.format_map(places)}")

    assert ended == status
    assert re.search(says.format_map(places), said), said
    assert said.count("\n") == 1


def test_a_certificate_that_is_out_of_date_is_no_matter_of_its_ca(
    authority: Authority, ask: Ask
) -> None:
    tls = RedisTls(authority.ca, *authority.issue("127.0.0.1", expired=True), checked=False)
    with RedisServer(password=PASSWORD, tls=tls) as server:
        status, _, said = ask(f"{bare(server)}?ssl_ca_certs={authority.ca}")
    assert status == 3
    assert "is out of date (certificate has expired); renew it" in said
    assert "ssl_ca_certs" not in said


def test_a_certificate_for_another_name_is_told_from_an_unknown_authority(
    secure: RedisServer, ask: Ask
) -> None:
    elsewhere = secure.url.replace("@127.0.0.1:", "@localhost:")
    status, _, said = ask(elsewhere)
    assert status == 3
    assert "its certificate is for another name" in said
    assert said.count("\n") == 1
    assert ask(f"{elsewhere}&ssl_check_hostname=false")[0] == 0


def test_no_bell_and_no_password_go_to_a_redis_that_is_not_trusted(
    secure: RedisServer, other: Authority
) -> None:
    settings = Settings.from_environment({})
    for query in ("", f"?ssl_ca_certs={other.ca}", "?ssl_check_hostname=false"):
        app = Celery(set_as_current=False)
        app.conf.update(celery_settings(settings, bare(secure) + query))
        with app.connection_for_write() as broker:
            # One try; a bell would repeat it for seconds.
            with pytest.raises(redis.ConnectionError, match="certificate verify failed") as caught:
                broker.transport.establish_connection()
            assert PASSWORD not in str(caught.value)


def test_a_client_certificate_is_given_where_redis_wants_one(
    authority: Authority, other: Authority, ask: Ask
) -> None:
    server, client = authority.issue("127.0.0.1"), authority.issue("client")
    with RedisServer(password=PASSWORD, tls=RedisTls(authority.ca, *server, client)) as strict:
        assert ask(strict.url)[0] == 0
        ring(strict.url)
        status, _, said = ask(f"{bare(strict)}?ssl_ca_certs={authority.ca}")
        unknown = other.issue("client")
        files = f"ssl_certfile={unknown[0]}&ssl_keyfile={unknown[1]}"
        ended, _, refused = ask(f"{bare(strict)}?ssl_ca_certs={authority.ca}&{files}")
    assert status == ended == 3
    # In TLS 1.3 the server's alert may come too late to be read.
    assert re.search(r"client certificate.*let ssl_certfile and ssl_keyfile in .* name one", said)
    assert f"accept the client certificate {unknown[0]}" in refused
    assert said.count("\n") == refused.count("\n") == 1
