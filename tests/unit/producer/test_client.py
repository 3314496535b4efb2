"""The client refuses bad input before it asks anybody anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.processes import free_port
from transship import Client, Push, UsageError


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda c: c.push("gcr.io/UPPER:1"), "write 'upper'"),
        (lambda c: c.push(""), "not an image reference"),
        (lambda c: c.push("http://gcr.io/a"), "without http://"),
        (lambda c: c.push(5), "image must be text"),
        (lambda c: c.push("gcr.io/a", labels={"run": 42}), "'run' must be text: write '42'"),
        (lambda c: c.push("gcr.io/a", labels=["run"]), "labels must be a mapping"),
        (lambda c: c.push("gcr.io/a", platform="arm64"), "'arm64' is no platform; write os/arch"),
        (lambda c: c.push("gcr.io/a", platform=64), "platform: a platform is text; write os/arch"),
        (lambda c: c.push("gcr.io/a", require_all_platforms="no"), "must be True or False"),
        (
            lambda c: c.push("gcr.io/a", platform="linux/arm64", require_all_platforms=True),
            "choose one: platform or require_all_platforms",
        ),
        (lambda c: c.push_many(["gcr.io/a"]), "takes transship.Push objects, not str"),
        (lambda c: c.push_many([Push("gcr.io/a"), Push("a b")]), "bad path segment"),
        (lambda c: c.copy("gcr.io/UPPER:1", "gcr.io/b"), "write 'upper'"),
        (lambda c: c.copy("gcr.io/a", 5), "target must be text"),
        (lambda c: c.copy("gcr.io/a", "gcr.io/b", labels=["run"]), "labels must be a mapping"),
        (lambda c: c.copy("gcr.io/a:1", "gcr.io/a"), "are one image; name another target"),
        (lambda c: c.migrate({"version": 2}), "version: 2 cannot be used; write 1"),
        (lambda c: c.migrate("version: 1\nnam: x"), "text:2: nam: is not known here; did you mean"),
        (lambda c: c.migrate(5), "int is no specification; give a path"),
        (lambda c: c.migrate(b"version: 1"), "bytes is no specification"),
        (lambda c: c.plan([]), "this is a plan already"),
    ],
)
def test_bad_input_is_named_although_redis_is_away(ask: Callable[[Any], object], says: str) -> None:
    with (
        Client(f"redis://127.0.0.1:{free_port()}/0") as client,
        pytest.raises(UsageError, match=says),
    ):
        ask(client)
