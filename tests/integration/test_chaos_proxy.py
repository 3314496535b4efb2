"""The proxy that is put before registries, before a small server of the test's own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from tests.chaos.faulty import FaultyProxy, Weather
from tests.chaos.plan import Kind
from tests.support.processes import eventually

BODY = bytes(200_000)


class Echo(BaseHTTPRequestHandler):
    """Gives back what it is sent, and remembers what it was asked."""

    protocol_version = "HTTP/1.1"
    asked: list[str]

    def do_GET(self) -> None:
        self._answer(BODY)

    def do_HEAD(self) -> None:
        self._answer(BODY)

    def do_PUT(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body: bytes) -> None:
        self.asked.append(f"{self.command} {self.path}")
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Location", f"http://{self.headers['Host']}/next")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_request(self, *_: object) -> None:
        """Say nothing."""


class Way:
    """The proxy, and what the server behind it was asked."""

    def __init__(self, proxy: FaultyProxy, asked: list[str]) -> None:
        self.proxy = proxy
        self.asked = asked

    def ask(self, method: str = "GET", data: bytes | None = None) -> requests.Response:
        url = f"http://{self.proxy.address}/a%2Fb?c=d%3D"
        return requests.request(method, url, data=data, timeout=20)

    def set(self, kind: Kind, *, every: int = 1, amount: float = 0) -> None:
        self.proxy.set(Weather(kind, every, amount))


@pytest.fixture
def way() -> Iterator[Way]:
    asked: list[str] = []
    handler = type("Handler", (Echo,), {"asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        with FaultyProxy(server.server_port) as proxy:
            yield Way(proxy, asked)
        server.shutdown()


def test_requests_and_answers_pass_unchanged(way: Way) -> None:
    assert way.ask().content == BODY
    assert way.ask("PUT", b"12345").content == b"12345"
    head = way.ask("HEAD")

    assert head.headers["Content-Length"] == str(len(BODY))
    assert head.headers["Location"] == f"http://{way.proxy.address}/next"
    assert way.asked == [f"{method} /a%2Fb?c=d%3D" for method in ("GET", "PUT", "HEAD")]


@pytest.mark.parametrize(
    ("kind", "status", "after"),
    [
        (Kind.ERROR_500, 500, None),
        (Kind.ERROR_502, 502, None),
        (Kind.ERROR_503, 503, None),
        (Kind.ERROR_503_AFTER, 503, "2"),
        (Kind.ERROR_429, 429, None),
        (Kind.ERROR_429_AFTER, 429, "2"),
    ],
)
def test_an_error_takes_the_place_of_an_answer(
    way: Way, kind: Kind, status: int, after: str | None
) -> None:
    way.set(kind, amount=2)

    answers = [way.ask(), way.ask()]

    assert [answer.status_code for answer in answers] == [status, status]
    assert [answer.headers.get("Retry-After") for answer in answers] == [after, after]
    # Of every second one only the answer is lost.
    assert len(way.asked) == 1


def test_each_how_manieth_request_is_struck(way: Way) -> None:
    way.set(Kind.ERROR_500, every=3)

    assert [way.ask("HEAD").status_code for _ in range(6)] == [200, 200, 500, 200, 200, 500]
    assert way.proxy.met == {Kind.ERROR_500: 2}


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_connection_is_reset_after_some_bytes(way: Way, method: str) -> None:
    way.set(Kind.RESET, amount=50_000)

    for _ in range(2):
        with pytest.raises(requests.RequestException):
            way.ask(method, BODY if method == "PUT" else None)

    way.proxy.set(None)
    assert way.ask().content == BODY


def test_what_hangs_is_reset_at_the_end(way: Way) -> None:
    way.set(Kind.HANG)
    failed = threading.Event()

    def ask() -> None:
        with pytest.raises(requests.ConnectionError):
            way.ask()
        failed.set()

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    eventually(lambda: way.proxy.met[Kind.HANG] == 2)
    assert not failed.is_set()
    way.proxy.set(None)
    for thread in threads:
        thread.join(20)

    assert failed.is_set()
    assert way.ask().content == BODY


def test_latency_and_bandwidth_keep_what_they_delay(way: Way) -> None:
    for kind, amount in ((Kind.LATENCY, 0.1), (Kind.BANDWIDTH, 2_000_000.0)):
        way.set(kind, amount=amount)
        start = time.monotonic()

        assert way.ask().content == BODY

        # A least time is no matter of the machine's speed.
        assert time.monotonic() - start >= 0.09
