"""Rights of accounts with real workers and registries; the client refuses nothing where it lies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.support.images.engine_images import make_image
from tests.support.images.registry_images import (
    image,
    noise,
    put_image,
    repository,
    with_pool,
)
from tests.support.processes import eventually
from tests.support.servers.registry import Registry
from tests.support.workers.copy_site import CopySite, component, rule, spec
from tests.support.workers.process import Site
from transship import Client, JobFailed, State
from transship.submit_rights import SubmitRights

pytestmark = [pytest.mark.redis, pytest.mark.registry]

REPOSITORIES = ("ml/train", "ml/deep/serve", "secret/key")
ACCOUNTS: dict[str, Any] = {
    # The account of a URL without a user name.
    "default": {
        "push": ["new/ml/**"],
        "copy_from": ["old/ml/**"],
        "copy_to": ["new/ml/**"],
        "labels": {"team": "a"},
        "acts_for": ["team-b"],
    },
    "team-b": {"copy_from": ["old"], "copy_to": ["new/b/**"], "labels": {"team": "b"}},
}


class Fleet:
    """One worker between two registries, and a source with three repositories."""

    def __init__(self, site: CopySite, source: Registry, target: Registry) -> None:
        self.site, self.source, self.target = site, source, target
        self.allow(ACCOUNTS)
        site.start_copier()

        async def fill(pool: Any) -> None:
            for name in REPOSITORIES:
                layer = noise(3_000, name)
                where = repository(pool, source.address, name)
                await put_image(where, image(layer), layer, b"{}", tag="v1")

        with_pool(fill)

    def allow(self, accounts: dict[str, Any]) -> None:
        """Change the section of the worker's catalog."""
        registries = {
            "old": component(self.source.address),
            "new": component(self.target.address),
        }
        self.site.write_catalog(registries, accounts=accounts)

    @property
    def client(self) -> Client:
        return self.site.client

    def copy(self, name: str, target: str, **more: Any) -> Any:
        return self.client.copy(
            f"{self.source.address}/{name}:v1", f"{self.target.address}/{target}", **more
        )


@pytest.fixture
def fleet(tmp_path: Path, redis_url: str) -> Iterator[Fleet]:
    with Registry() as source, Registry() as target:
        site = CopySite(tmp_path / "site", redis_url)
        try:
            yield Fleet(site, source, target)
        finally:
            site.close()


@pytest.fixture
def lying(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that submits what it knows to be refused."""
    monkeypatch.setattr(SubmitRights, "check", lambda *_: None)


def refusal(job: Any) -> str:
    """Why a job failed, for good and without an attempt."""
    with pytest.raises(JobFailed):
        job.wait(60)
    record = job.record()
    assert record.error is not None
    assert (record.error.code, record.error.retryable, record.attempts) == ("not_allowed", False, 0)
    return str(record.error.message)


@pytest.mark.usefixtures("lying")
def test_a_copy_that_is_not_allowed_reaches_no_registry(fleet: Fleet) -> None:
    assert refusal(fleet.copy("secret/key", "ml/stolen")) == (
        "account default may not copy from old/secret/key; it may copy from old/ml/**"
    )
    assert refusal(fleet.copy("ml/train", "web/app")) == (
        "account default may not copy to new/web/app; it may copy to new/ml/**"
    )
    assert fleet.target.digest("ml/stolen", "v1") is None
    record = fleet.copy("ml/train", "ml/train", tags=["v2"], labels={"team": "b"}).wait(60)
    assert record.digest == fleet.target.digest("ml/train", "v2")
    assert record.labels == {"team": "a"}


def test_the_command_line_refuses_with_exit_status_2(fleet: Fleet) -> None:
    source, target = fleet.source.address, fleet.target.address
    done = fleet.site.run("copy", f"{source}/secret/key:v1", f"{target}/ml/stolen")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "transship: account default may not copy from old/secret/key; it may copy from old/ml/**\n"
    )
    specification = fleet.site.folder / "spec.json"
    specification.write_text(json.dumps(spec(rule("new", "old", "ml/train"))))
    for words in (("migrate", "run"), ("migrate", "plan")):
        done = fleet.site.run(*words, str(specification))
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            "transship: account default may not copy from new; it may copy from old/ml/**\n"
        )


def test_on_behalf_of_another_the_rights_of_the_other_count_within_the_scope(
    fleet: Fleet,
) -> None:
    done = fleet.site.run(
        *("copy", f"{fleet.source.address}/secret/key:v1", f"{fleet.target.address}/b/key"),
        *("--on-behalf-of", "team-b/ann", "--wait", "--json"),
    )
    record = json.loads(done.stdout)
    assert (done.returncode, record["submitted_by"]) == (0, "default for team-b/ann")
    assert record["on_behalf_of"] == {"account": "team-b", "subject": "ann"}
    assert record["labels"] == {"team": "b"}
    # What the submitting account may do does not count.
    assert "may not copy to new/ml/train; it may copy to new/b/**" in refusal(
        fleet.copy("ml/train", "ml/train", on_behalf_of="team-b")
    )
    scope = {"copy_from": ["old/ml/**"], "copy_to": ["new"]}
    narrow = {"account": "team-b", "subject": "ann", "scope": scope}
    assert fleet.copy("ml/train", "b/train", on_behalf_of=narrow).wait(60).digest


@pytest.mark.usefixtures("lying")
def test_a_scope_and_the_account_named_are_checked_by_the_worker(fleet: Fleet) -> None:
    scope = {"copy_from": ["old/ml/**"], "copy_to": ["new"]}
    narrow = {"account": "team-b", "scope": scope}
    assert refusal(fleet.copy("secret/key", "b/key", on_behalf_of=narrow)) == (
        "account team-b (submitted by default) may not copy from old/secret/key; it may copy from "
        "old, and the request's scope has old/ml/**"
    )
    assert refusal(fleet.copy("ml/train", "b/x", on_behalf_of="team-c")) == (
        "account default may not submit on behalf of team-c; it may for team-b"
    )


def test_a_migration_plans_and_copies_only_what_its_account_may(fleet: Fleet) -> None:
    migration = fleet.client.migrate(spec(rule("old", "new")))
    record = migration.wait(60)
    assert (record.images.succeeded, record.failures) == (2, [])
    assert {one.labels["team"] for one in migration.jobs()} == {"a"}
    assert fleet.target.digest("secret/key", "v1") is None
    assert "secret" not in record.model_dump_json()


def test_a_row_that_is_not_allowed_fails_alone(fleet: Fleet) -> None:
    fleet.allow(ACCOUNTS | {"default": {"copy_from": ["old"], "copy_to": ["new"]}})
    eventually(lambda: len(fleet.client.rights()) == 1 and fleet.client.rights()[0].labels == {})
    rows = list(fleet.client.plan(spec(rule("old", "new"))).rows())
    assert len(rows) == 3
    fleet.allow(ACCOUNTS)
    eventually(lambda: fleet.client.rights()[0].labels == {"team": "a"})

    migration = fleet.client.migrate(rows)
    with pytest.raises(JobFailed):
        migration.wait(60)

    record = migration.record()
    assert (record.images.succeeded, record.images.failed) == (2, 1)
    (failed,) = migration.jobs(state=State.FAILED)
    assert failed.error is not None
    assert (failed.error.code, failed.attempts) == ("not_allowed", 0)
    assert fleet.target.digest("secret/key", "v1") is None
    # Nor does a retry by hand help.
    migration.retry()
    eventually(lambda: migration.record().state is State.FAILED)
    assert fleet.target.digest("secret/key", "v1") is None


def test_a_migration_on_behalf_of_another_copies_as_the_other(fleet: Fleet) -> None:
    rules = rule("old", "new", "secret/*")
    rules["to"]["repository"] = "b/{repository}"
    migration = fleet.client.migrate(spec(rules), on_behalf_of="team-b/ann")
    record = migration.wait(60)
    assert record.submitted_by == "default for team-b/ann"
    (job,) = migration.jobs()
    assert (job.submitted_by, job.labels) == ("default for team-b/ann", {"team": "b"})
    assert job.digest == fleet.target.digest("b/secret/key", "v1")


@pytest.mark.engine
@pytest.mark.usefixtures("lying")
def test_a_push_is_checked_before_the_engine_is_asked(
    site: Site, docker_client: docker.DockerClient, plain_registry: Registry
) -> None:
    names = [f"{plain_registry.address}/{path}/rights:1" for path in ("mine", "theirs")]
    for name in names:
        make_image(docker_client, name)
    site.write_catalog(
        {"lab": component(plain_registry.address)}, accounts={"default": {"push": ["lab/mine/*"]}}
    )
    site.start_worker()
    good, bad = (site.client.push(name, registry="lab") for name in names)
    assert good.wait(60).digest == plain_registry.digest("mine/rights", "1")
    assert refusal(bad) == (
        "account default may not push to lab/theirs/rights; it may push to lab/mine/*"
    )
    assert plain_registry.digest("theirs/rights", "1") is None
