"""Which accounts may write to a target."""

from __future__ import annotations

from transship.model.rights import Grants, Rights
from transship_worker.catalog.model import Components
from transship_worker.flavors.default import DefaultRegistry
from transship_worker.jobs.rights import writers_of

REGISTRIES = {
    "prod": DefaultRegistry(name="prod", uri="registry.example.com/ml"),
    "same": DefaultRegistry(name="same", uri="registry.example.com"),
}


def catalog(**accounts: Rights) -> Components:
    return Components(REGISTRIES, accounts=accounts)


def rights(account: str, *acts_for: str, **grants: list[str]) -> Rights:
    return Rights(account, Grants.of(grants), acts_for=frozenset(acts_for))


ACCOUNTS = catalog(
    pushes=rights("pushes", push=["prod/a/**"]),
    copies=rights("copies", copy_to=["same/ml/a/app"]),
    reads=rights("reads", copy_from=["prod", "same"]),
    other=rights("other", push=["prod/b/**"]),
    gateway=rights("gateway", "pushes", "reads"),
    reader=rights("reader", "reads"),
    second=rights("second", "gateway"),
)


def test_those_that_push_or_copy_there_or_act_for_one_that_does() -> None:
    found = writers_of(ACCOUNTS, "registry.example.com/ml/a/app:1")

    assert found == frozenset({"pushes", "copies", "gateway"})


def test_none_where_no_registry_is() -> None:
    assert writers_of(ACCOUNTS, "elsewhere.example.com/ml/a/app:1") == frozenset()
    # A migration is its own target.
    assert writers_of(ACCOUNTS, "01m8qbsscexhy5avqp1e-team-b") == frozenset()


def test_all_without_rights() -> None:
    assert writers_of(Components(REGISTRIES), "registry.example.com/ml/a/app:1") is None
