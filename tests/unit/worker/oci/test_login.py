"""How budgets name a login: equal in a fleet, and nobody can read the user from it."""

from __future__ import annotations

from transship.ledger.keys import Keys
from transship_worker.oci.login import Login

KEYS = Keys("transship")


def test_a_user_has_the_same_name_in_every_process_of_a_fleet() -> None:
    found = Login.of(KEYS, "registry.example.com", "pusher")
    assert found == Login("registry.example.com", "342217978536af28")
    assert found == Login.of(Keys("transship"), "registry.example.com", "pusher")


def test_who_has_no_login_is_called_a_dash() -> None:
    assert Login.of(KEYS, "registry.example.com", None).name == "-"


def test_no_two_users_and_no_two_fleets_share_a_name() -> None:
    found = {
        Login.of(keys, "registry.example.com", user).name
        for keys in (KEYS, Keys("other"))
        for user in ("pusher", "puller", "", "-")
    }
    assert len(found) == 8
    assert all(len(name) == 16 and "push" not in name for name in found)
