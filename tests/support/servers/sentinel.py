"""A primary, its replicas, and the sentinels that watch them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Final, Self
from urllib.parse import quote

import redis

from tests.support.processes import Server, eventually, free_port
from tests.support.proxies.delay import DelayProxy
from tests.support.proxies.tcp import TcpProxy
from tests.support.servers.redis import RedisServer, RedisTls, redis_binary
from transship_config.redis_tls import more_tls_options

#: What the sentinels call the primary and its replicas.
SERVICE: Final = "mymaster"
#: After so long a silence a server counts as down. Unit: ms.
DOWN_AFTER_MS: Final = 1000
#: A replica may be taken at once, and a slow start of it is no reason to wait.
_REPLICATING: Final = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")


class ReplicatedRedis(RedisServer):
    """A Redis that may be a primary or a replica, and changes from one to the other."""

    def __init__(
        self, *, password: str = "", tls: RedisTls | None = None, arguments: Sequence[str] = ()
    ) -> None:
        more = [*_REPLICATING, *arguments]
        if password:
            more += ["--masterauth", password]
        if tls:
            more += ["--tls-replication", "yes"]
        super().__init__(password=password, tls=tls, arguments=more)

    def follow(self, primary: RedisServer | TcpProxy | DelayProxy | None) -> None:
        """Become the replica of another one, or of the one behind a proxy; ``None``: a primary."""
        with self.client() as client:
            if primary is None:
                client.execute_command("REPLICAOF", "NO", "ONE")
                return
            client.execute_command("REPLICAOF", "127.0.0.1", primary.port)
        eventually(self.in_sync, what="a replica in sync")

    def in_sync(self) -> bool:
        """Whether it is a replica with all that its primary has."""
        with self.client() as client, suppress(redis.RedisError):
            found = client.info("replication")
            return bool(found["role"] == "slave" and found["master_link_status"] == "up")
        return False

    @property
    def role(self) -> str:
        """``master`` or ``slave``; empty: it does not answer."""
        with self.client() as client, suppress(redis.RedisError):
            return str(client.info("replication")["role"])
        return ""


class SentinelServer(Server):
    """One sentinel."""

    title = "redis-sentinel"

    def __init__(self, primary: RedisServer, quorum: int, *, password: str = "") -> None:
        super().__init__()
        self.port = free_port()
        self._primary = primary
        self._quorum = quorum
        self._password = password

    def command(self) -> Sequence[str]:
        file = self.folder / "sentinel.conf"
        # It writes what it learns into the file, and finds it there when it starts again.
        if not file.exists():
            file.write_text("\n".join(self._lines()) + "\n")
        return [redis_binary(), str(file), "--sentinel"]

    def _lines(self) -> Sequence[str]:
        primary = self._primary
        # "-": a machine without IPv6 does without.
        lines = ["bind 127.0.0.1 -::1", f"dir {self.folder}", "daemonize no"]
        if primary.tls is None:
            lines += [f"port {self.port}"]
        else:
            lines += ["port 0", f"tls-port {self.port}", "tls-replication yes"]
            lines += [f"tls-ca-cert-file {primary.tls.ca}", "tls-auth-clients no"]
            lines += [f"tls-cert-file {primary.tls.certificate}"]
            lines += [f"tls-key-file {primary.tls.key}"]
        lines += [
            f"sentinel monitor {SERVICE} 127.0.0.1 {primary.port} {self._quorum}",
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {SERVICE} 3000",
            f"sentinel parallel-syncs {SERVICE} 1",
        ]
        if primary.password:
            lines.append(f"sentinel auth-pass {SERVICE} {primary.password}")
        if self._password:
            # Its own login at the others is the same.
            lines += [f"requirepass {self._password}", f"sentinel sentinel-pass {self._password}"]
        return lines

    def client(self) -> redis.Redis:
        """A new client of the sentinel; the caller closes it."""
        secure = self._primary.tls is not None
        login = f":{quote(self._password)}@" if self._password else ""
        query = f"?{self._primary.tls.query}" if self._primary.tls else ""
        url = f"{'rediss' if secure else 'redis'}://{login}127.0.0.1:{self.port}/0{query}"
        more = more_tls_options(url)
        return redis.Redis.from_url(url, decode_responses=True, driver_info=None, **more)

    def answers(self) -> bool:
        with self.client() as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    def primary_port(self) -> int:
        """The port of the primary, as this sentinel knows it."""
        with self.client() as client:
            reply = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return int(reply[1])

    def ready(self, sentinels: int, replicas: int) -> bool:
        """Whether it knows all others."""
        with self.client() as client, suppress(redis.RedisError):
            state = client.sentinel_master(SERVICE)
            return (
                int(state["num-other-sentinels"]) == sentinels - 1
                and int(state["num-slaves"]) >= replicas
            )
        return False


class Watched:
    """A primary with replicas under sentinels, on loopback ports."""

    def __init__(
        self,
        *,
        replicas: int = 1,
        sentinels: int = 3,
        password: str = "",
        sentinel_password: str = "",
        tls: RedisTls | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self._sentinel_password = sentinel_password
        self.servers = [
            ReplicatedRedis(password=password, tls=tls, arguments=arguments)
            for _ in range(replicas + 1)
        ]
        self.sentinels = [
            SentinelServer(self.servers[0], sentinels // 2 + 1, password=sentinel_password)
            for _ in range(sentinels)
        ]
        self._stack = ExitStack()

    @property
    def url(self) -> str:
        """The ``sentinel://`` URL."""
        first = self.servers[0]
        login = f":{quote(first.password)}@" if first.password else ""
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        options = []
        if first.tls:
            options += ["ssl=true", first.tls.query]
        if self._sentinel_password:
            options.append(f"sentinel_password={quote(self._sentinel_password, safe='')}")
        query = f"?{'&'.join(options)}" if options else ""
        return f"sentinel://{login}{hosts}/{SERVICE}/0{query}"

    @property
    def primary(self) -> ReplicatedRedis:
        """The server that the first sentinel that runs takes for the primary."""
        port = next(one for one in self.sentinels if one.running).primary_port()
        return next(server for server in self.servers if server.port == port)

    def fail_over(self) -> None:
        """Let the sentinels make another server the primary, as after its death but at once."""
        old = self.primary
        sentinel = next(one for one in self.sentinels if one.running)
        with sentinel.client() as client:
            client.execute_command("SENTINEL", "FAILOVER", SERVICE)
        self.moved_from(old)

    def moved_from(self, old: RedisServer, *, within: float = 30) -> ReplicatedRedis:
        """Wait for another primary than ``old``, which it says itself and all sentinels know."""

        def moved() -> bool:
            ports = {one.primary_port() for one in self.sentinels if one.running}
            return len(ports) == 1 and self.primary is not old and self.primary.role == "master"

        eventually(moved, within=within, what="another primary")
        return self.primary

    def settled(self) -> bool:
        """Whether all servers run and the replicas have all that the primary has."""
        primary = self.primary
        return all(one is primary or one.in_sync() for one in self.servers)

    def _ready(self) -> bool:
        replicas = len(self.servers) - 1
        return all(one.ready(len(self.sentinels), replicas) for one in self.sentinels)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for server in self.servers:
                stack.enter_context(server)
            for replica in self.servers[1:]:
                replica.follow(self.servers[0])
            for sentinel in self.sentinels:
                stack.enter_context(sentinel)
            eventually(self._ready, what="sentinels that know all others")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
