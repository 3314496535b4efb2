"""One connection to the Docker Engine that another thread can cut.

The Docker SDK has no way to end a call that waits: closing the generator of a push from
another thread raises ``generator already executing``, and closing the response waits for the
reader. What does end it is to shut the socket down, so each socket is remembered as it opens.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

import docker
import requests
from docker.auth import encode_header
from docker.transport import UnixHTTPAdapter
from docker.utils.json_stream import json_stream

from transship_worker.transports.engine.answers import refusal
from transship_worker.transports.engine.endpoint import Endpoint

#: The oldest version of the engine's API that is spoken: Docker Engine 20.10, Podman 4.
OLDEST: Final = "1.41"
#: Versions from which a push takes ``platform``, and an image tells its manifests
#: (docs.docker.com, "Engine API version history").
PLATFORM_API: Final = (1, 46)
MANIFESTS_API: Final = (1, 48)

#: Seconds that the engine may take over a call that asks it something. Unit: s.
CALL_TIMEOUT_S: Final = 60.0
#: Bytes of an export that are asked for at once. Unit: bytes.
EXPORT_PIECE: Final = 1024 * 1024
#: The longest event of a push; the SDK puts an event together in memory. Unit: bytes.
LONGEST_EVENT: Final = 1024 * 1024
#: Bytes of events that are asked for at once, where they do not come in chunks. Unit: bytes.
EVENTS_PIECE: Final = 64 * 1024


class Line(docker.APIClient):
    """The Docker SDK's low-level client for one job, and for one thread at a time.

    ``cut`` may be called from any thread.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        """Nothing is connected yet; ``use_version`` comes next."""
        self._sockets: list[socket.socket] = []
        self._sockets_lock = threading.Lock()
        self._is_cut = False
        #: What the engine calls itself in its answers: ``Docker/28.5.2 (linux)``,
        #: ``Libpod/5.8.6 (linux)``; empty before the first answer, or where it does not say.
        self.server = ""
        super().__init__(
            base_url=endpoint.url,
            tls=endpoint.tls.config() if endpoint.tls else False,
            # No request is made with it: ``use_version`` asks for the engine's own, in an
            # unversioned request. With "auto" this would ask here, and could not be cut.
            version=OLDEST,
            timeout=CALL_TIMEOUT_S,  # type: ignore[arg-type]  # the stubs know whole seconds only
            use_ssh_client=True,
        )
        if endpoint.is_local_socket:
            # No proxy and no netrc of the environment's is for a socket; looking takes longer
            # than the engine's answer.
            self.trust_env = False
        self.hooks["response"] = [self._answered]

    @property
    def api(self) -> tuple[int, int]:
        """The version of the engine's API that is spoken."""
        line: Any = self
        return api_version(str(line._version)) or (0, 0)

    def use_version(self, version: str = "") -> str:
        """Speak this version of the engine's API; the engine's newest by default. Returns it.

        Raises:
            docker.errors.DockerException: the engine does not answer.
        """
        line: Any = self
        line._version = version or line._retrieve_server_version()
        return str(line._version)

    def merge_environment_settings(self, *args: Any, **kwargs: Any) -> Any:
        """As in requests, but the engine's CA is not overruled.

        requests lets ``REQUESTS_CA_BUNDLE`` take the place of a session's own CA.
        """
        settings = super().merge_environment_settings(*args, **kwargs)
        settings["verify"] = self.verify
        return settings

    def _raise_for_status(self, response: requests.Response) -> None:
        """As in the SDK, for answers of every engine."""
        error = refusal(response)
        if error is not None:
            raise error

    def _answered(self, response: requests.Response, *_: Any, **__: Any) -> None:
        self.server = response.headers.get("Server") or self.server

    def get_adapter(self, url: str | bytes) -> Any:
        """The adapter for a URL, watched for the connections it opens."""
        adapter = super().get_adapter(url)  # type: ignore[arg-type]  # requests passes text
        if "get_connection_with_tls_context" not in vars(adapter):
            _watch(adapter, self._opened)
        return adapter

    def cut(self) -> None:
        """End what the line waits for, at once, and every later call; the engine drops the push."""
        with self._sockets_lock:
            self._is_cut = True
            opened, self._sockets = self._sockets, []
        for line in opened:
            _hang_up(line)

    def hang_up(self) -> None:
        """Cut it, and let go of all that it holds."""
        self.cut()
        self.close()

    @contextmanager
    def without_timeout(self) -> Iterator[None]:
        """While the block runs, silence of the engine is no error: a stall limit is at work."""
        line: Any = self  # the stubs do not know that None means no timeout
        before = line.timeout
        line.timeout = None
        try:
            yield
        finally:
            line.timeout = before

    def push_events(
        self,
        name: str,
        tag: str,
        auth_config: Mapping[str, str],
        platform: Mapping[str, str] | None = None,
    ) -> Generator[dict[str, Any], None, None]:
        """Push and give the engine's events as they come.

        ``platform``: the one that is sent of an index, as in an OCI descriptor (API 1.46).
        """
        line: Any = self
        # The SDK's own call knows no platform.
        params = {"tag": tag}
        if platform is not None:
            params["platform"] = json.dumps(dict(platform))
        headers = {"X-Registry-Auth": encode_header(dict(auth_config))}
        with self.without_timeout():
            response = line._post_json(
                line._url("/images/{0}/push", name),
                None,
                headers=headers,
                stream=True,
                params=params,
            )
            self._raise_for_status(response)
            # The SDK takes an answer that is not chunked for one value, and reads all of it first.
            chunked = response.raw._fp.chunked
            yield from _events(
                line._stream_helper(response) if chunked else response.iter_content(EVENTS_PIECE)
            )

    def inspect_manifests(self, name: str) -> Mapping[str, Any]:
        """As ``inspect_image``, with the manifests of an index (API 1.48)."""
        line: Any = self
        answer = line._get(line._url("/images/{0}/json", name), params={"manifests": "1"})
        found: Mapping[str, Any] = line._result(answer, json=True)
        return found

    def export_image(self, image_id: str) -> Generator[bytes, None, None]:
        """An image as a tar, as it comes; the engine first writes all of it to its own disk."""
        with self.without_timeout():
            yield from self.get_image(image_id, chunk_size=EXPORT_PIECE)

    def _opened(self, line: socket.socket) -> None:
        with self._sockets_lock:
            if not self._is_cut:
                self._sockets = [one for one in self._sockets if one.fileno() >= 0]
                self._sockets.append(line)
                return
        _hang_up(line)


def _events(pieces: Iterator[Any]) -> Iterator[dict[str, Any]]:
    """The JSON values of a stream.

    Raises:
        docker.errors.StreamParseError: one is longer than ``LONGEST_EVENT``, or is no JSON.
    """
    unread = 0

    def counted() -> Iterator[Any]:
        nonlocal unread
        for piece in pieces:
            if unread > LONGEST_EVENT:
                reason = f"an event of a push is longer than {LONGEST_EVENT // 2**20} MiB"
                raise docker.errors.StreamParseError(reason)
            unread += len(piece)
            yield piece

    events: Any = json_stream(counted())
    for event in events:
        unread = 0
        yield event


def api_version(text: str) -> tuple[int, int] | None:
    """A version of the engine's API as numbers; ``None``: it is none."""
    found = re.fullmatch(r"(\d{1,4})\.(\d{1,4})", text.strip(), re.ASCII)
    return (int(found[1]), int(found[2])) if found else None


def is_spoken(version: str) -> bool:
    """Whether this version of the engine's API can be spoken."""
    found, oldest = api_version(version), api_version(OLDEST)
    return found is not None and oldest is not None and found >= oldest


def _watch(adapter: requests.adapters.BaseAdapter, opened: Any) -> None:
    """Tell ``opened`` of every socket that this adapter's connections open.

    All of the SDK's adapters (unix, TCP, TLS, ssh) get their pool from this one method, and
    every pool makes its connections in one other.
    """
    adapters: Any = adapter
    get_pool = adapters.get_connection_with_tls_context

    def watched(*args: Any, **kwargs: Any) -> Any:
        pool: Any
        if isinstance(adapters, UnixHTTPAdapter):
            # By itself the SDK opens a connection for each URL, and keeps it.
            pool = adapters.get_connection(adapters.socket_path)
        else:
            pool = get_pool(*args, **kwargs)
        if "_new_conn" not in vars(pool):
            pool._new_conn = _watched_maker(pool._new_conn, opened)
        return pool

    adapters.get_connection_with_tls_context = watched


def _watched_maker(make: Any, opened: Any) -> Any:
    def make_watched() -> Any:
        connection = make()
        connect = connection.connect

        def connect_watched() -> None:
            connect()
            opened(connection.sock)

        connection.connect = connect_watched
        return connection

    return make_watched


def _hang_up(line: socket.socket) -> None:
    process: subprocess.Popen[bytes] | None = getattr(line, "proc", None)
    if process is not None:
        # The SDK's ssh "socket" is an `ssh` command in disguise. With its input closed, the
        # SDK does not try to write a farewell to it.
        process.terminate()
        with suppress(OSError):
            if process.stdin:
                process.stdin.close()
        return
    # The plain socket's method also for TLS: the TLS one pulls the TLS state away from under
    # the thread that reads. A socket that is closed already needs nothing.
    with suppress(OSError):
        socket.socket.shutdown(line, socket.SHUT_RDWR)
