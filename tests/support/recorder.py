"""A loopback server that passes reads on to a registry and keeps the logins that it was given."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, Self

import requests

#: What is passed on of a request, and of an answer.
_UP: Final = ("Accept", "Authorization", "Range")
_DOWN: Final = ("Content-Type", "Docker-Content-Digest", "ETag", "WWW-Authenticate")


class Recorder:
    """Stands before one registry; its own ``address`` takes the place of the registry's."""

    def __init__(self, base: str) -> None:
        #: The URL of the registry that reads are passed on to.
        self.base = base
        #: ``Authorization`` of each request, "" without one.
        self.logins: list[str] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)

    @property
    def address(self) -> str:
        """``127.0.0.1:PORT``."""
        return f"127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _handler(recorder) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                recorder.logins.append(self.headers.get("Authorization", ""))
                headers = {name: self.headers[name] for name in _UP if name in self.headers}
                answer = requests.request(
                    self.command, f"{recorder.base}{self.path}", headers=headers, timeout=30
                )
                self.send_response(answer.status_code)
                for name in _DOWN:
                    if name in answer.headers:
                        self.send_header(name, answer.headers[name])
                # Of a HEAD, too, it is what the registry says.
                self.send_header("Content-Length", answer.headers.get("Content-Length", "0"))
                self.end_headers()
                self.wfile.write(answer.content)

            do_HEAD = do_GET  # noqa: N815 - the name is the server's

        return Handler
