"""What accounts.sh makes of users.acl."""

from __future__ import annotations

import hashlib

import pytest

from tests.support.servers.redis_accounts import (
    PASSWORDS,
    TEAMS,
    made,
    shipped,
    with_another,
    with_teams,
)


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
    assert "producer" not in ci


def test_the_teams_are_examples_that_a_command_in_the_file_switches_on() -> None:
    assert not any(team in made(shipped(), PASSWORDS).stdout for team in TEAMS)

    words = PASSWORDS | {"ci": "pw"} | {team: f"pw-{team}" for team in TEAMS}
    lines = made(with_teams(), words).stdout.splitlines()

    rules = {line.split()[1]: line.rpartition(" #")[0] for line in lines}
    producer = rules["producer"]
    assert {team: rules[team] for team in TEAMS} == {
        team: producer.replace("producer", team) for team in TEAMS
    }
    hashed = hashlib.sha256(b"pw-ci-gateway").hexdigest()
    assert [line for line in lines if line.endswith(hashed)] == [f"{rules['ci-gateway']} #{hashed}"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("producer", "account producer is there twice\n"),
        (
            "PRODUCER",
            "account PRODUCER: REDIS_PRODUCER_PASSWORD is another account's password, too\n",
        ),
        ("-x", "account -x: letters, digits, _ and - only, no - first\n"),
        ("a*", "account a*: letters, digits, _ and - only, no - first\n"),
        ("a:b", "account a:b: letters, digits, _ and - only, no - first\n"),
    ],
)
def test_a_name_that_would_mix_accounts_up_is_refused(name: str, says: str) -> None:
    done = made(f"{shipped()}\nuser {name} on +ping\n", PASSWORDS)

    assert (done.returncode, done.stdout, done.stderr) == (1, "", says)


def test_an_account_with_a_hash_of_its_own_needs_no_variable() -> None:
    users = with_another().replace("user ci on ", f"user ci on #{'0' * 64} ")
    last = made(users, PASSWORDS).stdout.splitlines()[-1]

    assert last.startswith(f"user ci on #{'0' * 64} resetkeys ")
    assert last.count(" #") == 1
