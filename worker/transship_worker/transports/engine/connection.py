"""One connection to the Docker Engine that another thread can cut.

The Docker SDK has no way to end a call that waits: closing the generator of a push from
another thread raises ``generator already executing``, and closing the response waits for the
reader. What does end it is to shut the socket down, so each socket is remembered as it opens.
"""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

import docker
import requests
from docker.constants import MINIMUM_DOCKER_API_VERSION
from docker.transport import UnixHTTPAdapter

from transship_worker.transports.engine.endpoint import Endpoint

#: Seconds that the engine may take over a call that asks it something. Unit: s.
CALL_TIMEOUT_S: Final = 60.0
#: Bytes of an export that are asked for at once. Unit: bytes.
EXPORT_PIECE: Final = 1024 * 1024


class Line(docker.APIClient):
    """The Docker SDK's low-level client for one job, and for one thread at a time.

    ``cut`` may be called from any thread.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        """Nothing is connected yet; ``use_version`` comes next."""
        self._sockets: list[socket.socket] = []
        self._sockets_lock = threading.Lock()
        self._is_cut = False
        super().__init__(
            base_url=endpoint.url,
            tls=endpoint.tls.config() if endpoint.tls else False,
            # Any will do: with "auto" this would ask the engine, and could not be cut.
            version=MINIMUM_DOCKER_API_VERSION,
            timeout=CALL_TIMEOUT_S,  # type: ignore[arg-type]  # the stubs know whole seconds only
            use_ssh_client=True,
        )
        if endpoint.is_local_socket:
            # No proxy and no netrc of the environment's is for a socket; looking takes longer
            # than the engine's answer.
            self.trust_env = False

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
        self, name: str, tag: str, auth_config: Mapping[str, str]
    ) -> Generator[dict[str, Any], None, None]:
        """Push and give the engine's events as they come."""
        with self.without_timeout():
            # An empty auth config is not None: with None the SDK looks into config.json.
            yield from self.push(
                name, tag=tag, stream=True, decode=True, auth_config=dict(auth_config)
            )

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
