"""All keys of a ledger as JSON, and back into a Redis, as if they had been written just now."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import redis

from tests.support.repository import ROOT

#: Recordings, one a version.
FOLDER = ROOT / "tests" / "recorded"
#: Numbers this near to the time of a recording are times. Unit: ms.
_NEAR_MS = 60 * 24 * 3600 * 1000
_NUMBER = re.compile(r"\d{13,16}")


def dump(client: redis.Redis, namespace: str) -> dict[str, Any]:
    """Every key of a namespace, without its prefix, with its type, value and time to live."""
    keys = {}
    for key in sorted(client.scan_iter(match=f"{namespace}:*", count=1000)):
        kind = str(client.type(key))
        left = int(client.pttl(key))
        found: dict[str, Any] = {"type": kind, "value": _read(client, key, kind)}
        if left >= 0:
            found["expires_ms"] = left
        keys[str(key).removeprefix(f"{namespace}:")] = found
    return {"time_ms": now_ms(client), "keys": keys}


def load(client: redis.Redis, namespace: str, recording: Mapping[str, Any]) -> None:
    """Write a recording under another namespace; its times are moved to now.

    A time is a number of 13 digits (ms) or 16 (µs) near that of the recording: a score, a field,
    or a text of its own. Ids of jobs and of stream entries stay.
    """
    then = int(recording["time_ms"])
    shift = now_ms(client) - then

    def moved(text: str) -> str:
        if not _NUMBER.fullmatch(text):
            return text
        number = int(text)
        if abs(number - then) < _NEAR_MS:
            return str(number + shift)
        if abs(number // 1000 - then) < _NEAR_MS:
            return str(number + shift * 1000)
        return text

    for name, found in recording["keys"].items():
        key = f"{namespace}:{name}"
        _write(client, key, found, moved)
        if "expires_ms" in found:
            client.pexpire(key, found["expires_ms"])


def now_ms(client: redis.Redis) -> int:
    """Redis's clock. Unit: ms."""
    seconds, micros = client.time()
    return int(seconds) * 1000 + int(micros) // 1000


def _read(connection: redis.Redis, key: str, kind: str) -> Any:
    client: Any = connection
    readers: dict[str, Callable[[], Any]] = {
        "string": lambda: client.get(key),
        "hash": lambda: client.hgetall(key),
        "list": lambda: client.lrange(key, 0, -1),
        "set": lambda: sorted(client.smembers(key)),
        "zset": lambda: [[m, f"{s:.0f}"] for m, s in client.zrange(key, 0, -1, withscores=True)],
        "stream": lambda: [list(entry) for entry in client.xrange(key)],
    }
    return readers[kind]()


def _write(
    client: redis.Redis, key: str, found: Mapping[str, Any], moved: Callable[[str], str]
) -> None:
    kind, value = found["type"], found["value"]
    if kind == "string":
        client.set(key, moved(value))
    elif kind == "hash":
        client.hset(key, mapping={name: moved(text) for name, text in value.items()})
    elif kind == "list":
        client.rpush(key, *value)
    elif kind == "set":
        client.sadd(key, *value)
    elif kind == "zset":
        client.zadd(key, {member: float(moved(score)) for member, score in value})
    else:
        for number, fields in value:
            client.xadd(key, {name: moved(text) for name, text in fields.items()}, id=number)


def recording(version: str) -> dict[str, Any]:
    """The ledger that a fleet of this version left."""
    found: dict[str, Any] = json.loads((FOLDER / f"ledger-{version}.json").read_text("utf-8"))
    return found
