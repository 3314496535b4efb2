"""Two joined networks with addresses of every class, and a DNS server that changes its answers."""

from __future__ import annotations

import socket
import subprocess
import threading
from pathlib import Path
from typing import Final, Self

from tests.support.servers.network import PrivateNetwork

#: Of the worker's end. Nothing of them leaves the two networks.
NEAR_GLOBAL: Final = "93.184.216.1"
NEAR_PRIVATE: Final = "10.77.0.1"
#: Of the other end, by what they are there: not this machine, for the worker.
FAR_GLOBAL: Final = "93.184.216.34"
FAR_PRIVATE: Final = "10.77.0.34"
FAR_SHARED: Final = "100.64.0.34"
FAR_LINK: Final = "169.254.7.34"
FAR_METADATA: Final = "169.254.169.254"

_JOIN: Final = """
set -e
ip link add name near type veth peer name far
ip link set far netns "$1"
nsenter --target "$1" --net sh -c '
    set -e
    ip link set far up
    for address; do ip address add "$address" dev far; done
' sh {far}
ip link set near up
for address in {near}; do ip address add "$address" dev near; done
"""


class JoinedNetworks:
    """Where a worker runs (``near``) and where the servers are that it reaches (``far``).

    The worker's resolver asks ``dns``.
    """

    def __init__(self) -> None:
        self.near, self.far = PrivateNetwork(), PrivateNetwork()

    def __enter__(self) -> Self:
        self.far.__enter__()
        try:
            self.near.__enter__()
            self._join()
            self.dns = self.near.run(lambda: RebindingDns("127.0.0.1"))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if hasattr(self, "dns"):
            self.dns.close()
        self.near.close()
        self.far.close()

    def _join(self) -> None:
        # One of each of the worker's subnets, with room for both ends.
        far = [f"{one}/24" for one in (FAR_GLOBAL, FAR_PRIVATE, FAR_SHARED)]
        far += [f"{one}/16" for one in (FAR_LINK, FAR_METADATA)]
        near = [f"{NEAR_GLOBAL}/24", f"{NEAR_PRIVATE}/24", "100.64.0.1/24", "169.254.7.1/16"]
        script = _JOIN.format(far=" ".join(far), near=" ".join(near))
        subprocess.run(
            [*self.near.words, "sh", "-c", script, "sh", str(self.far.pid)],
            check=True,
            capture_output=True,
        )
        (self.near.etc / "resolv.conf").write_text(
            "nameserver 127.0.0.1\noptions timeout:1 attempts:2\n"
        )
        (self.near.etc / "nsswitch.conf").write_text("hosts: dns\n")

    def worker(self, program: Path, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a program in the worker's network, with its resolver."""
        return subprocess.run(
            [*self.near.words, str(program), *words], capture_output=True, text=True, timeout=60
        )


class RebindingDns:
    """Answers A questions with no time to live; each name has a list of answers, one a question.

    The last answer stays. What has none is said not to exist.
    """

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 53))
        self._socket.settimeout(0.2)
        self._stopped = False
        self._answers: dict[str, list[list[str]]] = {}
        self.asked: list[str] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def say(self, name: str, *turns: list[str]) -> None:
        """Answer a name with these addresses, one list for each question."""
        self._answers[name] = list(turns)

    def close(self) -> None:
        """Stop."""
        self._stopped = True
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while not self._stopped:
            try:
                question, sender = self._socket.recvfrom(512)
            except TimeoutError:
                continue
            self._socket.sendto(self._answer(question), sender)

    def _answer(self, question: bytes) -> bytes:
        """RFC 1035, 4.1; the question is repeated, and each address points to its name."""
        labels, at = [], 12
        while length := question[at]:
            labels.append(question[at + 1 : at + 1 + length].decode())
            at += 1 + length
        name, kind = ".".join(labels).lower(), question[at + 1 : at + 3]
        known = name in self._answers
        addresses: list[str] = []
        if known and kind == b"\0\1":
            self.asked.append(name)
            turns = self._answers[name]
            addresses = turns.pop(0) if len(turns) > 1 else turns[0]
        flags = b"\x81\x80" if known else b"\x81\x83"
        head = question[:2] + flags + b"\0\1" + len(addresses).to_bytes(2) + b"\0\0\0\0"
        records = [b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + socket.inet_aton(one) for one in addresses]
        return head + question[12 : at + 5] + b"".join(records)
