"""Logins in the memory of the worker: shared, replaced in time, fetched by one at a time."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from transship.errors import CloudUnavailable
from transship_worker.credentials.access import Credentials
from transship_worker.credentials.cache import TokenCache


def login(name: str, lifetime: timedelta | None = timedelta(hours=1)) -> Credentials:
    ends = None if lifetime is None else datetime.now(UTC) + lifetime
    return Credentials(name, SecretStr("x"), ends)


def test_a_login_that_says_nothing_of_its_end_is_not_kept() -> None:
    cache = TokenCache(margin=timedelta(minutes=5))
    assert cache.get("key", lambda: login("first", None)).username == "first"
    assert cache.get("key", lambda: login("second", None)).username == "second"


def test_a_failed_fetch_is_not_kept_and_the_next_one_asks_again() -> None:
    cache = TokenCache(margin=timedelta(minutes=5))

    def fail() -> Credentials:
        raise CloudUnavailable("later")

    with pytest.raises(CloudUnavailable):
        cache.get("key", fail)
    assert cache.get("key", lambda: login("second")).username == "second"


def test_one_thread_fetches_while_others_wait_and_other_keys_are_not_held_up() -> None:
    cache = TokenCache(margin=timedelta(minutes=5))
    fetching, go_on = threading.Event(), threading.Event()
    fetched: list[str] = []

    def slow() -> Credentials:
        fetched.append("slow")
        fetching.set()
        assert go_on.wait(10)
        return login("slow")

    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(cache.get("key", slow).username))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    assert fetching.wait(10)
    assert cache.get("other", lambda: login("other")).username == "other"
    go_on.set()
    for thread in threads:
        thread.join()
    assert found == ["slow"] * 4
    assert fetched == ["slow"]
