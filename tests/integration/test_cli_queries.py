"""Commands that ask and answer at once, on a real Redis."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest

from tests.support.ledger.bench import BROKEN, Bench
from tests.support.processes import free_port
from tests.support.servers.redis import RedisServer
from tests.support.workers.command_line import DENIED, IMAGE, PROD, Shell
from transship.model.jobs import JobId
from transship.model.push_request import PushRequest
from transship.model.records import ErrorInfo, Progress
from transship.model.references import ImageReference

#: The fields of a job's object that programs may rely on.
JOB_FIELDS = {
    *("id", "state", "step", "image", "registry", "flavor", "source", "engine", "digest"),
    *("skipped", "deduplicated", "attempts", "next_attempt_at", "submitted_by", "progress"),
    *("labels", "created_at", "started_at", "finished_at", "worker", "error"),
    *("kind", "source_registry", "tags", "migration"),
}


@pytest.fixture
def shell(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Shell]:
    bench = Bench(redis_url)
    monkeypatch.setenv("TRANSSHIP_URL", redis_url)
    monkeypatch.setenv("TRANSSHIP_NAMESPACE", bench.namespace)
    yield Shell(bench, capsys)
    bench.redis.close()


def test_a_push_prints_its_id_and_the_job_is_in_the_ledger(shell: Shell) -> None:
    shell.publish()
    status, out, err = shell.run("push", IMAGE, "--label", "run=42", "-q")
    assert (status, err) == (0, "")
    record = shell.bench.record(JobId.parse(out))
    assert (record.image, record.registry, record.engine) == (IMAGE, "prod", "build-7")
    assert record.labels == {"run": "42"}


def test_a_jobs_object_has_every_field_that_programs_rely_on(shell: Shell) -> None:
    shell.publish()
    (found,) = shell.objects("push", IMAGE)
    assert found.keys() >= JOB_FIELDS
    assert found["progress"].keys() == {
        *("bytes_done", "bytes_total", "layers_done", "layers_total"),
        *("bytes_mounted", "bytes_present"),
    }
    assert found["state"] == "queued"
    (job,) = shell.objects("status", found["id"])
    assert job == found


def test_an_equal_push_says_that_it_is_the_same_job(shell: Shell) -> None:
    shell.publish()
    (first,) = shell.objects("push", IMAGE)
    (second,) = shell.objects("push", IMAGE)
    assert (first["deduplicated"], second["deduplicated"]) == (False, True)
    assert second["id"] == first["id"]
    assert "an equal push was still queued" in shell.run("push", IMAGE)[1]


def test_images_are_read_from_standard_input(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.publish()
    text = "registry.example.com/ml/a:1\n\n# not this one\n registry.example.com/ml/b:1 \n"
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    found = [job["image"] for job in shell.objects("push", "-", "--bulk")]
    assert found == ["registry.example.com/ml/a:1", "registry.example.com/ml/b:1"]


def test_one_bad_image_among_many_enqueues_none(shell: Shell) -> None:
    shell.publish()
    status, out, err = shell.run("push", IMAGE, "registry.example.com/ml/Train:42")
    assert (status, out) == (2, "")
    assert "write 'train'" in err
    assert shell.objects("jobs") == []


def test_an_image_elsewhere_is_refused_with_the_command_that_is_right(shell: Shell) -> None:
    shell.publish()
    status, _, err = shell.run("push", "train:42", "--registry", "prod")
    assert status == 2
    assert err == (
        "transship: 'train:42' means docker.io/library/train:42, which is not under "
        "registry.example.com/ml (prod); write: transship push "
        "registry.example.com/ml/train:42 --source train:42 --registry prod\n"
    )


def test_an_unknown_component_is_known_at_once(shell: Shell) -> None:
    shell.publish()
    status, _, err = shell.run("push", IMAGE, "--registry", "prd")
    assert (status, err) == (2, "transship: no component 'prd'; did you mean 'prod'? known: prod\n")


def test_without_a_worker_a_push_is_taken_with_a_warning(shell: Shell) -> None:
    status, out, err = shell.run("push", IMAGE, "--registry", "prod", "-q")
    assert status == 0
    assert JobId.parse(out)
    assert err.startswith("transship: warning: no worker is alive")


def test_jobs_are_listed_newest_first_and_filtered(shell: Shell) -> None:
    first = shell.submit("r.example/a:1", labels={"run": "1"})
    second = shell.submit("r.example/b:1", registry="other", labels={"run": "2"})
    third = shell.submit("r.example/c:1", labels={"run": "2"})
    shell.bench.claims.fail(shell.bench.claimed(third), DENIED)

    def ids(*arguments: str) -> list[str]:
        return [job["id"] for job in shell.objects("jobs", *arguments)]

    assert set(ids()) == {first, second, third}
    created = [job["created_at"] for job in shell.objects("jobs")]
    assert created == sorted(created, reverse=True)
    assert ids("--state", "failed") == [third]
    assert ids("--registry", "other") == [second]
    assert set(ids("--label", "run=2")) == {second, third}
    assert ids("--label", "run=2", "--registry", "prod") == [third]
    assert len(ids("--limit", "2")) == 2


def test_a_list_that_is_piped_is_plain_columns(shell: Shell) -> None:
    job = shell.submit()
    shell.bench.claims.fail(shell.bench.claimed(job), DENIED)
    status, out, _ = shell.run("jobs")
    head, row = out.splitlines()
    assert status == 0
    assert head.split() == ["ID", "STATE", "AGE", "IMAGE", "REGISTRY", "DETAIL"]
    assert row.split() == [job, "failed", "0s", IMAGE, "prod", "denied"]
    assert "\x1b" not in out


def test_an_empty_list_says_so_on_stderr(shell: Shell) -> None:
    assert shell.run("jobs") == (0, "", "transship: no jobs\n")
    assert shell.run("jobs", "--state", "failed") == (0, "", "transship: no jobs like that\n")


def test_status_shows_what_runs_and_how_far_it_is(shell: Shell) -> None:
    job = shell.submit()
    claim = shell.bench.claimed(job)
    progress = Progress(bytes_done=45, bytes_total=100, layers_done=1, layers_total=3)
    shell.bench.claims.report(claim, step="pushing", progress=progress)
    status, out, _ = shell.run("status", job)
    assert status == 0
    assert "state      running pushing 45 %, 45 B of 100 B, 1 of 3 layers\n" in out
    assert "worker     worker-1\n" in out


def test_status_escapes_what_a_registry_said(shell: Shell) -> None:
    job = shell.submit()
    spoof = ErrorInfo(code="denied", message="no\nstate  succeeded\x1b[2J", retryable=False)
    shell.bench.claims.fail(shell.bench.claimed(job), spoof)
    _, out, _ = shell.run("status", job)
    assert "error      denied: no\\nstate  succeeded\\x1b[2J\n" in out


def test_a_job_that_there_is_not_is_bad_input(shell: Shell) -> None:
    for verb in ("status", "watch", "cancel", "retry"):
        status, out, err = shell.run(verb, "0" * 20)
        assert (status, out) == (2, "")
        assert err.startswith(f"transship: no job {'0' * 20}")
        assert shell.run(verb, "train:42")[0] == 2


def test_cancel_takes_a_queued_job_away_and_retry_brings_it_back(shell: Shell) -> None:
    job = shell.submit()
    assert shell.run("cancel", job)[:2] == (0, f"{job} cancelled {IMAGE}\n")
    assert shell.objects("status", job)[0]["state"] == "cancelled"
    assert shell.run("cancel", job)[0] == 2
    assert shell.run("retry", job)[:2] == (0, f"{job} queued {IMAGE} → prod\n")
    assert shell.objects("status", job)[0]["state"] == "queued"
    assert shell.run("retry", job)[0] == 2


def test_cancelling_a_job_that_runs_says_that_it_was_asked(shell: Shell) -> None:
    job = shell.submit()
    shell.bench.claimed(job)
    status, out, _ = shell.run("cancel", job)
    assert (status, out) == (0, f"{job} running {IMAGE}: asked to stop\n")


def test_another_accounts_job_cannot_be_cancelled(shell: Shell) -> None:
    request = PushRequest(image=ImageReference.parse(IMAGE), registry="prod")
    job = shell.bench.submit(request, account="ci")
    status, _, err = shell.run("cancel", job)
    assert status == 2
    assert "submitted by account 'ci'" in err


DOCKER = {
    "product": "Docker",
    "version": "28.5.2",
    "api_version": "1.51",
    "store": "containerd",
    "driver": "overlayfs",
}
PODMAN = {
    "product": "Podman",
    "version": "4.3.1",
    "api_version": "1.41",
    "store": "podman",
    "driver": "overlay",
}


def test_workers_is_a_health_check(shell: Shell) -> None:
    status, out, err = shell.run("workers")
    assert (status, out) == (1, "")
    assert err.startswith("transship: no live worker")
    shell.publish(running=3)
    status, out, _ = shell.run("workers")
    assert status == 0
    row = ["transship@host.1", "build-7", "-", "3", "4/2/8", "1", "0s", "ok"]
    assert out.splitlines()[1].split() == row
    (found,) = shell.objects("workers")
    assert (found["name"], found["engine"]) == ("transship@host.1", "build-7")


def test_workers_names_the_version_and_the_store_of_each_engine(shell: Shell) -> None:
    shell.publish(engine_info=DOCKER)
    shell.publish("transship@host.2", engine="pod-2", engine_info=PODMAN)
    _, out, _ = shell.run("workers")
    assert "build-7  Docker 28.5.2, containerd  " in out
    assert "pod-2    Podman 4.3.1  " in out
    first = shell.objects("workers")[0]["engine_info"]
    assert first == DOCKER | {"min_api_version": "", "rootless": False, "tested": True}


def test_workers_here_counts_only_this_machine(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "host")
    shell.publish("transship@host-2.77")
    assert shell.run("workers", "--here")[0] == 1
    shell.publish("transship@host.78")
    status, out, _ = shell.run("workers", "--here")
    assert status == 0
    assert "host.78" in out
    assert "host-2" not in out


def test_registry_list_shows_what_workers_publish(shell: Shell) -> None:
    shell.publish("transship@a.1")
    shell.publish("transship@b.1", engine="gpu-2")
    status, out, _ = shell.run("registry", "list")
    assert status == 0
    assert out.splitlines()[1].split() == ["prod", "default", "registry.example.com/ml", "2"]
    assert shell.objects("registry", "describe", "prod") == [
        {
            "name": "prod",
            "flavor": "default",
            "uri": "registry.example.com/ml",
            "engines": ["build-7", "gpu-2"],
            "workers": ["transship@a.1", "transship@b.1"],
        }
    ]


def test_two_uris_under_one_name_are_an_error(shell: Shell) -> None:
    shell.publish("transship@a.1")
    other = PROD.model_copy(update={"uri": "elsewhere.example.com"})
    shell.publish("transship@b.1", components=[other])
    for command in (["registry", "list"], ["registry", "list", "--json"]):
        status, out, err = shell.run(*command)
        assert status == 1
        assert len(out.splitlines()) >= 2
        assert "with different URIs: elsewhere.example.com, registry.example.com/ml" in err
    assert shell.run("registry", "describe", "prod")[0] == 2


def test_describing_what_is_not_published_names_what_is(shell: Shell) -> None:
    shell.publish()
    status, _, err = shell.run("registry", "describe", "prd")
    assert (status, err) == (2, "transship: no component 'prd'; did you mean 'prod'? known: prod\n")


def checks(shell: Shell, status: int) -> dict[str, list[tuple[str, str]]]:
    """What doctor found: check → codes and messages."""
    got, out, err = shell.run("doctor", "--json")
    assert (got, err) == (status, ""), out
    found: dict[str, list[tuple[str, str]]] = {}
    for line in out.splitlines():
        finding = json.loads(line)
        assert finding["ok"] or finding["mend"], finding
        found.setdefault(finding["check"], []).append((finding["code"], finding["message"]))
    return found


def test_doctor_finds_nothing_missing_where_nothing_is(shell: Shell) -> None:
    shell.publish()
    found = checks(shell, 0)
    assert {code for codes in found.values() for code, _ in codes} == {"ok", "everything_allowed"}
    assert found.keys() == {"redis", "workers", "engine", "catalogue", "accounts"}
    status, out, _ = shell.run("doctor")
    assert status == 0
    assert out.split()[:2] == ["ok", "redis"]


def test_doctor_says_that_no_worker_is_alive_and_what_starts_one(shell: Shell) -> None:
    assert checks(shell, 1)["workers"][0][0] == "no_worker"
    status, out, _ = shell.run("doctor")
    assert status == 1
    assert "missing  workers" in out
    assert "to mend it: transship worker" in out


def test_doctor_names_each_engine_and_whether_it_is_supported(shell: Shell) -> None:
    shell.publish(engine_info=DOCKER)
    shell.publish("transship@host.2", engine_info=DOCKER)
    shell.publish("transship@host.3", engine="pod-2", engine_info=PODMAN)
    shell.publish("transship@host.4", engine="older")
    streams = "streams with --via stream only"
    docker = f"Docker 28.5.2 (API 1.51, containerd image store, overlayfs): supported; {streams}"
    podman = f"Podman 4.3.1 (API 1.41, containers/storage, overlay): not tested; {streams}"
    assert checks(shell, 0)["engine"] == [
        ("ok", f"build-7: {docker}"),
        ("ok", "older"),
        ("untested_engine", f"pod-2: {podman}; reports no progress during a push"),
    ]


def test_doctor_names_the_worker_without_an_engine(shell: Shell) -> None:
    shell.publish(engine=None, engine_error="connection refused")
    found = checks(shell, 1)["engine"]
    assert found == [("no_engine", "transship@host.1 has no Docker Engine: connection refused")]


def test_doctor_names_what_is_wrong_with_catalogues(shell: Shell) -> None:
    shell.publish("transship@a.1", components=[], catalog_error="c.yaml:3: no flavor 'x'")
    found = [code for code, _ in checks(shell, 1)["catalogue"]]
    assert found == ["catalog_error", "no_component"]
    shell.publish("transship@a.1")
    other = PROD.model_copy(update={"uri": "elsewhere.example.com"})
    shell.publish("transship@b.1", components=[other])
    assert [code for code, _ in checks(shell, 1)["catalogue"]] == ["conflict"]


def test_doctor_names_secrets_that_a_worker_cannot_read(shell: Shell) -> None:
    problem = "component 'prod': password: the variable PROD_PASSWORD is not set"
    shell.publish(credential_errors={"prod": problem})
    assert checks(shell, 1)["credentials"] == [("credentials_missing", problem)]


def test_doctor_says_when_the_newest_push_had_no_right_credentials(shell: Shell) -> None:
    shell.publish()
    job = shell.submit()
    shell.bench.claims.fail(shell.bench.claimed(job), DENIED)
    (code, message) = checks(shell, 1)["credentials"][0]
    assert code == "denied"
    assert message == f"prod: push {job} ended as denied: no right to push"


def test_doctor_forgets_refused_credentials_once_a_push_got_in(shell: Shell) -> None:
    shell.publish()
    shell.bench.claims.fail(shell.bench.claimed(shell.submit("r.example/a:1")), DENIED)
    later = shell.submit("r.example/b:1")
    # Redis's clock may give both jobs the same millisecond.
    created = int(shell.bench.record(later).created_at.timestamp() * 1000) + 1
    shell.bench.redis.zadd(shell.bench.keys.queued("default"), {later: created})
    shell.bench.succeed(shell.bench.claimed(later))
    assert checks(shell, 0)["credentials"][0][0] == "ok"


def test_doctor_and_all_others_exit_with_3_when_redis_is_away(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"redis://:sesame@127.0.0.1:{free_port()}/0"
    monkeypatch.setenv("TRANSSHIP_URL", url)
    status, out, _ = shell.run("doctor")
    assert status == 3
    assert "cannot be reached" in out
    for command in (
        ["jobs"],
        ["push", IMAGE, "--registry", "prod"],
        ["workers"],
        ["status", "0" * 20],
    ):
        status, out, err = shell.run(*command)
        assert (status, out) == (3, "")
        assert err.count("\n") == 1
        assert "sesame" not in err


def test_doctor_finds_a_redis_that_forgets(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ["--appendonly", "no", "--maxmemory-policy", "allkeys-lru"]
    with RedisServer(arguments=settings) as forgetful:
        monkeypatch.setenv("TRANSSHIP_URL", forgetful.url)
        found = [code for code, _ in checks(shell, 1)["redis"]]
    assert found == ["eviction", "no_append_only"]


def test_a_bad_setting_is_bad_input(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSSHIP_URL", "http://127.0.0.1")
    status, _, err = shell.run("jobs")
    assert status == 2
    assert err.startswith("transship: TRANSSHIP_URL must be redis://")


def test_a_job_retried_later_is_listed_as_retrying(shell: Shell) -> None:
    job = shell.submit()
    shell.bench.claims.try_later(shell.bench.claimed(job), BROKEN, 3600)
    _, out, _ = shell.run("jobs")
    assert "registry_unavailable, again in 59m" in out
