"""What accounts.sh makes of users.acl."""

from __future__ import annotations

import hashlib

import pytest

from tests.support.servers.redis_accounts import PASSWORDS, made, shipped, with_another


def test_one_line_an_account_with_the_hash_of_its_password() -> None:
    done = made(shipped(), PASSWORDS)

    lines = done.stdout.splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["user", "default", "off"],
        *(["user", name, "on"] for name in PASSWORDS),
    ]
    for line, word in zip(lines[1:], PASSWORDS.values(), strict=True):
        assert line.endswith(f" #{hashlib.sha256(word.encode()).hexdigest()}")
    assert "planted" not in done.stdout + done.stderr


@pytest.mark.parametrize("word", ["", "a b", "x>y", "#", "ä", "a\nb", "$(id)", "nopass "])
def test_a_password_that_cannot_stand_in_a_url_is_refused(word: str) -> None:
    done = made(shipped(), PASSWORDS | {"worker": word})

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("REDIS_WORKER_PASSWORD ")
    assert done.stderr.count("\n") == 1


def test_without_passwords_nothing_is_made() -> None:
    done = made(shipped(), {})

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "REDIS_PRODUCER_PASSWORD is not set: it is the password of the Redis account producer\n"
    )


def test_another_namespace_takes_the_place_of_the_shipped_one() -> None:
    done = made(shipped(), PASSWORDS, namespace="team.a-1")

    assert "transship" not in done.stdout
    assert "~team.a-1:from:producer:*" in done.stdout
    assert "&team.a-1:celery:/0.celeryev/*" in done.stdout
    assert made(shipped(), PASSWORDS, namespace="a*").returncode == 1


def test_the_command_in_the_file_adds_a_producer_with_rules_of_its_own() -> None:
    lines = made(with_another(), PASSWORDS | {"ci": "pw"}).stdout.splitlines()

    producer, ci = (line.rpartition(" #")[0] for line in (lines[1], lines[-1]))
    assert ci == producer.replace("producer", "ci")
    assert "~transship:from:ci:*" in ci


def test_an_account_with_a_hash_of_its_own_needs_no_variable() -> None:
    users = with_another().replace("user ci on ", f"user ci on #{'0' * 64} ")
    last = made(users, PASSWORDS).stdout.splitlines()[-1]

    assert last.startswith(f"user ci on #{'0' * 64} resetkeys ")
    assert last.count(" #") == 1
