"""Account × verb × registry × pattern × path, for each way in which a job comes about.

What each account may do is written out by hand here, and compared with what a push, a copy, a row
of a migration, a planner and a request on behalf of another account are allowed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest

from transship.errors import NotAllowed
from transship.model.copy_request import CopyRequest
from transship.model.jobs import JobId
from transship.model.migration.plan import Action, PlanRow, RowSource, RowTarget
from transship.model.push_request import PushRequest
from transship.model.rights import Verb
from transship_worker.catalog.file import Document
from transship_worker.catalog.model import Components, build
from transship_worker.handlers.copy import Copying
from transship_worker.handlers.migration.requests import row_of
from transship_worker.handlers.push import Pushing
from transship_worker.handlers.registries import Registries
from transship_worker.migrate.allowed import Allowed

CATALOG: Final = """\
registries:
  prod: {flavor: default, uri: registry.example.com}
  base: {flavor: default, uri: registry.example.com/ml}
  hub: {flavor: default, uri: docker.io}
anonymous_sources: [quay.io]
accounts:
  whole: {push: [prod], copy_from: [hub], copy_to: [prod]}
  deep: {push: ["prod/ml/**"], copy_from: ["prod/ml/**", hub/library/*], copy_to: ["base/**"]}
  one: {push: [prod/ml/*], copy_from: [quay.io/org/*], copy_to: [prod/ml/train]}
  middle: {push: ["prod/**/train"], copy_from: ["hub/**/tool"], copy_to: ["base/t*n"]}
  grouped: {push: [prod/web]}
  nothing: {}
  gateway: {push: [hub], acts_for: [deep, nothing]}
groups:
  readers: {members: [grouped], copy_from: [hub/library/tool]}
  writers: {members: [grouped], push: [base/train]}
"""
HOSTS: Final = {
    "prod": "registry.example.com",
    "base": "registry.example.com/ml",
    "hub": "docker.io",
    "quay.io": "quay.io",
}
#: Repositories as they follow the entry's URI.
PATHS: Final = {
    "prod": ("ml", "ml/train", "ml/deep/train", "mlx/train", "web", "train"),
    "base": ("train", "deep/train", "web"),
    "hub": ("library/tool", "library/deep/tool", "acme/tool", "acme/other"),
    "quay.io": ("org/tool", "org/deep/tool", "other/tool"),
}
ACCOUNTS: Final = (
    *("whole", "deep", "one", "middle", "grouped", "nothing", "gateway"),
    *("stranger", "default"),
)

_MAY: Final = {
    ("whole", "push"): {f"prod/{path}" for path in PATHS["prod"]},
    ("whole", "copy_from"): {f"hub/{path}" for path in PATHS["hub"]},
    ("whole", "copy_to"): {f"prod/{path}" for path in PATHS["prod"]},
    ("deep", "push"): {"prod/ml", "prod/ml/train", "prod/ml/deep/train"},
    ("deep", "copy_from"): {
        *("prod/ml", "prod/ml/train", "prod/ml/deep/train", "hub/library/tool"),
    },
    ("deep", "copy_to"): {"base/train", "base/deep/train", "base/web"},
    ("one", "push"): {"prod/ml/train"},
    ("one", "copy_from"): {"quay.io/org/tool"},
    ("one", "copy_to"): {"prod/ml/train"},
    ("middle", "push"): {
        *("prod/ml/train", "prod/ml/deep/train", "prod/mlx/train", "prod/train"),
    },
    ("middle", "copy_from"): {"hub/library/tool", "hub/library/deep/tool", "hub/acme/tool"},
    ("middle", "copy_to"): {"base/train"},
    ("grouped", "push"): {"prod/web", "base/train"},
    ("grouped", "copy_from"): {"hub/library/tool"},
    ("gateway", "push"): {f"hub/{path}" for path in PATHS["hub"]},
}
EVERYWHERE: Final = [(entry, path) for entry, paths in PATHS.items() for path in paths]
TARGETS: Final = [(entry, path) for entry, path in EVERYWHERE if entry != "quay.io"]


def may(account: str, verb: str, entry: str, path: str) -> bool:
    """What the catalog means, by hand."""
    return f"{entry}/{path}" in _MAY.get((account, verb), set())


def name(entry: str, path: str) -> str:
    return f"{HOSTS[entry]}/{path}:1"


@pytest.fixture(scope="module")
def components() -> Components:
    return build(Document.parse(Path("/nowhere/catalog.yaml"), CATALOG))


@dataclass(frozen=True)
class Works:
    """The handlers of one version of the catalog, as far as they accept requests."""

    components: Components

    @property
    def pushing(self) -> Pushing:
        nothing = cast("Any", None)
        engine = cast("Any", SimpleNamespace(name="build-7"))
        return Pushing(lambda: self.components, engine, lambda: None, *(nothing for _ in range(5)))

    @property
    def copying(self) -> Copying:
        return Copying(lambda: self.components, cast("Any", None), cast("Any", None))

    def refused(self, request: PushRequest | CopyRequest, account: str) -> str | None:
        """Why a worker does not claim it for this account; ``None``: it does."""
        work = self.pushing if isinstance(request, PushRequest) else self.copying
        try:
            accepted = work.accept(cast("Any", request), account)
        except NotAllowed as error:
            return error.message
        assert not accepted.rights.everything
        return None


def push(entry: str, path: str, **changes: Any) -> PushRequest:
    return PushRequest.model_validate({"image": name(entry, path), "registry": entry} | changes)


def copy(source: tuple[str, str], target: tuple[str, str], **changes: Any) -> CopyRequest:
    fields = {
        "image": name(*target),
        "registry": target[0],
        "source": name(*source),
        "source_registry": source[0],
    }
    return CopyRequest.model_validate(fields | changes)


@pytest.mark.parametrize("account", ACCOUNTS)
def test_a_push_is_claimed_where_the_account_may_push(components: Components, account: str) -> None:
    works = Works(components)
    found = {place: works.refused(push(*place), account) for place in TARGETS}
    assert {place for place, problem in found.items() if problem is None} == {
        place for place in TARGETS if may(account, "push", *place)
    }
    for (entry, path), problem in found.items():
        if problem is not None:
            assert problem.startswith(f"account {account} may not push to {entry}/{path}; it may ")
            assert problem.isprintable()


def copies(account: str) -> Iterator[tuple[tuple[str, str], tuple[str, str], bool]]:
    """Every pair, and whether the account may copy it."""
    for source, target in product(EVERYWHERE, TARGETS):
        yield (
            source,
            target,
            may(account, "copy_from", *source) and may(account, "copy_to", *target),
        )


@pytest.mark.parametrize("account", ACCOUNTS)
def test_a_copy_is_claimed_where_the_account_may_read_and_write(
    components: Components, account: str
) -> None:
    works = Works(components)
    for source, target, allowed in copies(account):
        problem = works.refused(copy(source, target, more_tags=["2", "3"]), account)
        assert (problem is None) is allowed, (source, target, problem)


@pytest.mark.parametrize("account", ACCOUNTS)
def test_a_row_of_a_migration_fails_where_its_account_may_not_copy(
    components: Components, account: str
) -> None:
    registries = Registries(components)
    migration = JobId.new(account)
    for source, target, allowed in copies(account):
        row = PlanRow(
            migration=migration,
            rule=0,
            action=Action.COPY,
            source=RowSource(registry=source[0], repository=source[1], digest="sha256:" + "a" * 64),
            target=RowTarget(registry=target[0], repository=target[1]),
            tags={"1": "1"},
        )
        made = row_of(row, migration, registries, fresh=True, rights=components.rights_of(account))
        assert (made.error is None) is allowed, (source, target, made.error)
        if made.error is not None:
            assert (made.error.code, made.error.retryable) == ("not_allowed", False)


@pytest.mark.parametrize("account", ACCOUNTS)
def test_a_planner_names_only_repositories_that_the_account_may_read(
    components: Components, account: str
) -> None:
    registries = Registries(components)
    allowed = Allowed(components.rights_of(account), lambda one: str(registries.uri(one)))
    for entry, paths in PATHS.items():
        assert allowed.readable(entry, list(paths)) == [
            path for path in paths if may(account, "copy_from", entry, path)
        ]
        for path in paths:
            problem = allowed.problem(Verb.COPY_TO, entry, path)
            assert (problem is None) is may(account, "copy_to", entry, path)


@pytest.mark.parametrize("other", ACCOUNTS)
@pytest.mark.parametrize("account", ACCOUNTS)
def test_on_behalf_of_another_only_the_rights_of_the_other_count(
    components: Components, account: str, other: str
) -> None:
    works = Works(components)
    acts = account == "gateway" and other in {"deep", "nothing"}
    for place in TARGETS:
        problem = works.refused(push(*place, on_behalf_of=other), account)
        assert (problem is None) is (acts and may(other, "push", *place)), (place, problem)
        if not acts:
            assert (problem or "").startswith(
                f"account {account} may not submit on behalf of {other}; it may for "
            )
    for source, target, allowed in copies(other):
        problem = works.refused(copy(source, target, on_behalf_of=other), account)
        assert (problem is None) is (acts and allowed), (source, target, problem)


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [
        ({}, set()),
        ({"copy_from": ["prod"], "copy_to": ["prod"]}, set()),
        ({"push": ["prod/ml/train"]}, {"prod/ml/train"}),
        ({"push": ["prod", "base", "hub"]}, _MAY["deep", "push"]),
        ({"push": ["prod/**/train"]}, {"prod/ml/train", "prod/ml/deep/train"}),
    ],
)
def test_a_scope_takes_away_and_never_adds(
    components: Components, scope: dict[str, Any], allowed: set[str]
) -> None:
    works = Works(components)
    wanted = {"account": "deep", "subject": "ann", "scope": scope}
    found = {
        f"{entry}/{path}"
        for entry, path in TARGETS
        if works.refused(push(entry, path, on_behalf_of=wanted), "gateway") is None
    }
    assert found == allowed


def test_a_request_is_checked_by_the_component_that_it_names(components: Components) -> None:
    works = Works(components)
    # Both components have the repository; only one of the names is granted.
    assert works.refused(push("prod", "ml/train"), "deep") is None
    under_base = PushRequest.model_validate(
        {"image": "registry.example.com/ml/train:1", "registry": "base"}
    )
    assert works.refused(under_base, "deep") == (
        "account deep may not push to base/train; it may push to prod/ml/**"
    )
    # What a request says of its registry, and what its image says, must fit.
    outside = PushRequest.model_validate(
        {"image": "elsewhere.example.com/ml/train:1", "registry": "prod"}
    )
    assert works.refused(outside, "deep") == (
        "account deep may not push to elsewhere.example.com/ml/train, which is not under "
        "registry.example.com (prod); it may push to prod/ml/**"
    )


def test_a_host_of_anonymous_sources_is_read_under_its_own_name_alone(
    components: Components,
) -> None:
    works = Works(components)
    assert works.refused(copy(("quay.io", "org/tool"), ("prod", "ml/train")), "one") is None
    disguised = CopyRequest.model_validate(
        {
            "image": name("prod", "ml/train"),
            "registry": "prod",
            "source": "docker.io/org/tool:1",
            "source_registry": "quay.io",
        }
    )
    assert "which is not under quay.io" in (works.refused(disguised, "one") or "")
