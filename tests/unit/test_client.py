"""The client refuses bad input before it asks anybody anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from longshore import Client, Push, UsageError
from tests.support.processes import free_port


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda c: c.push("gcr.io/UPPER:1"), "write 'upper'"),
        (lambda c: c.push(""), "not an image reference"),
        (lambda c: c.push("http://gcr.io/a"), "without http://"),
        (lambda c: c.push(5), "image must be text"),
        (lambda c: c.push("gcr.io/a", labels={"run": 42}), "'run' must be text: write '42'"),
        (lambda c: c.push("gcr.io/a", labels=["run"]), "labels must be a mapping"),
        (lambda c: c.push_many(["gcr.io/a"]), "takes longshore.Push objects, not str"),
        (lambda c: c.push_many([Push("gcr.io/a"), Push("a b")]), "bad path segment"),
    ],
)
def test_bad_input_is_named_although_redis_is_away(ask: Callable[[Any], object], says: str) -> None:
    with (
        Client(f"redis://127.0.0.1:{free_port()}/0") as client,
        pytest.raises(UsageError, match=says),
    ):
        ask(client)
