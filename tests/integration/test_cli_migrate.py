"""``transship copy`` and ``transship migrate`` on a real Redis; the test is the worker."""

from __future__ import annotations

import csv
import io
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ledger.bench import Bench
from tests.support.ledger.played_migration import SPEC_YAML, Planning, copied, failed, row
from tests.support.processes import eventually
from tests.support.servers.redis import RedisServer
from tests.support.workers.command_line import COMMAND, Shell, Stage, on_terminal, publish, staging
from transship.model.components import PublicComponent
from transship.model.copy_request import CopyRequest
from transship.model.jobs import JobId
from transship.model.migration.plan import PlanRow
from transship.model.migration.request import MigrationRequest
from transship.model.records import ErrorInfo

pytestmark = pytest.mark.redis

HUB = PublicComponent(name="hub", flavor="dockerhub", uri="docker.io")
PROD = PublicComponent(name="prod", flavor="default", uri="registry.example.com/ml")
SOURCE, TARGET = "docker.io/acme/cat:1.2", "registry.example.com/ml/cat:1.2"

#: What programs may rely on.
MIGRATION_FIELDS = {
    "id",
    "name",
    "state",
    "images",
    "bytes",
    "created_at",
    "finished_at",
}


@pytest.fixture
def shell(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Shell]:
    bench = Bench(redis_url)
    monkeypatch.setenv("TRANSSHIP_URL", redis_url)
    monkeypatch.setenv("TRANSSHIP_NAMESPACE", bench.namespace)
    publish(bench, components=[HUB, PROD], anonymous_sources=["quay.io"])
    yield Shell(bench, capsys)
    bench.redis.close()


@pytest.fixture
def stage(redis_url: str, tmp_path: Path) -> Iterator[Stage]:
    with staging(redis_url, tmp_path) as made:
        publish(made.bench, components=[HUB, PROD])
        yield made


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    file = tmp_path / "hub.yaml"
    file.write_text(SPEC_YAML)
    return file


def request_of(bench: Bench, job: str) -> CopyRequest:
    found = bench.ledger.request(JobId.parse(job))
    assert isinstance(found, CopyRequest)
    return found


TRANSSHIP = " ".join(COMMAND)


def sh(stage: Stage, script: str) -> str:
    """What a line of shell prints."""
    done = subprocess.run(
        ["sh", "-c", script], env=stage.environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def migration(bench: Bench) -> JobId:
    """The migration that waits to be planned."""

    def find() -> list[str]:
        return [str(job) for job in bench.redis.zrange(bench.keys.queued("default"), 0, -1)]

    return JobId(eventually(find, what="a migration")[0])


def test_a_copy_finds_its_components_by_their_names(shell: Shell) -> None:
    status, out, err = shell.run("copy", SOURCE, "registry.example.com/ml/cat", "-q")

    assert (status, err) == (0, "")
    found = request_of(shell.bench, out)
    assert (str(found.source), found.source_registry) == (SOURCE, "hub")
    assert (str(found.image), found.registry) == (TARGET, "prod")


def test_a_copy_takes_all_its_options(shell: Shell) -> None:
    words = ["--platform", "linux/amd64", "--platform", "linux/arm64", "--referrers"]
    names = ["--from", "hub", "--to", "prod"]
    (found,) = shell.objects("copy", SOURCE, TARGET, *names, *words)

    request = request_of(shell.bench, found["id"])
    assert [str(platform) for platform in request.platforms] == ["linux/amd64", "linux/arm64"]
    assert request.referrers
    assert (found["kind"], found["source_registry"], found["tags"]) == ("copy", "hub", ["1.2"])


def test_an_equal_copy_says_that_it_is_the_same_job(shell: Shell) -> None:
    shell.run("copy", SOURCE, TARGET)
    assert "an equal copy was still queued" in shell.run("copy", SOURCE, TARGET)[1]


def test_a_host_that_may_be_read_without_a_component_is_a_source(shell: Shell) -> None:
    _, out, _ = shell.run("copy", "quay.io/acme/cat:1", TARGET, "-q")
    assert request_of(shell.bench, out).source_registry == "quay.io"


DIGEST = "sha256:" + "b" * 64


def test_an_image_without_a_tag_arrives_under_its_digest(shell: Shell) -> None:
    name = "registry.example.com/ml/cat"
    _, out, _ = shell.run("copy", f"docker.io/acme/cat@{DIGEST}", name, "-q")
    assert str(request_of(shell.bench, out).image) == f"{name}@{DIGEST}"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["ghcr.io/a/b:1", TARGET], "no component covers the source ghcr.io/a/b:1, and ghcr.io is"),
        ([SOURCE, "ghcr.io/a/b:1"], "no component covers the target ghcr.io/a/b:1; known: hub"),
        ([SOURCE, TARGET, "--from", "hb"], "'hb' is neither a component nor among the workers'"),
        ([SOURCE, TARGET, "--from", "quay.io"], "is not on quay.io; leave --from out"),
        ([SOURCE, TARGET, "--to", "hub"], "is not under docker.io (hub); write for example"),
        ([SOURCE, TARGET, "--platform", "linux"], "platforms"),
        ([SOURCE, SOURCE], "are one image; name another target"),
        ([SOURCE, f"{TARGET}@{DIGEST}"], "names a tag and a digest"),
        (["docker.io/UPPER", TARGET], "write 'upper'"),
        ([SOURCE, TARGET, "--timeout", "5"], "--timeout ends a wait; add --wait"),
    ],
)
def test_a_copy_that_cannot_be_is_one_line(shell: Shell, words: list[str], says: str) -> None:
    status, out, err = shell.run("copy", *words)

    assert (status, out, err.count("\n")) == (2, "", 1)
    assert says in err


def test_without_a_worker_components_must_be_named(shell: Shell) -> None:
    shell.bench.redis.delete(shell.bench.keys.workers)

    status, _, err = shell.run("copy", SOURCE, TARGET)
    assert (status, "name it with --to" in err) == (2, True)
    status, _, err = shell.run("copy", SOURCE, TARGET, "--from", "hub", "--to", "prod")
    assert (status, "no worker is alive" in err) == (0, True)


def test_a_run_prints_its_id_and_state(shell: Shell, spec: Path) -> None:
    status, out, err = shell.run("migrate", "run", str(spec))

    assert (status, err) == (0, "")
    found, state, name = out.split()
    assert (state, name) == ("queued", "hub-to-prod")
    assert isinstance(shell.bench.ledger.request(JobId(found)), MigrationRequest)


def test_a_migrations_object_is_what_programs_rely_on(shell: Shell, spec: Path) -> None:
    (found,) = shell.objects("migrate", "run", str(spec))

    assert found.keys() >= MIGRATION_FIELDS
    assert found["images"].keys() == {
        *("planned", "queued", "running", "retrying"),
        *("succeeded", "skipped", "failed", "cancelled"),
    }
    assert found["bytes"].keys() == {"planned", "moved", "mounted", "present"}
    assert shell.objects("status", found["id"]) == [found]
    assert shell.objects("migrate", "list") == [found]


def test_a_bad_spec_is_a_line_for_each_mistake_and_status_2(shell: Shell, spec: Path) -> None:
    spec.write_text(SPEC_YAML.replace('"mirror/{repository}"', "{repository}") + "extra: 1\n")
    status, out, err = shell.run("migrate", "run", str(spec))

    assert (status, out) == (2, "")
    place = "rules[0].to.repository"
    assert err.splitlines() == [
        f"transship: {spec}:5: {place}: a mapping is not a text; write it in quotes",
        f"  {spec}:6: extra: is not known here; known: version, name, rules",
    ]
    assert shell.run("migrate", "run", str(spec.parent / "absent"))[0] == 2


def test_totals_are_shown_and_failures_are_retried(shell: Shell, spec: Path) -> None:
    _, out, _ = shell.run("migrate", "run", str(spec))
    found = out.split()[0]
    planning = Planning(shell.bench, JobId(found))
    first, second = planning.images(2, skipped=3)
    planning.end()
    copied(shell.bench, first, moved=60_000, mounted=40_000)
    failed(shell.bench, second)

    status, out, _ = shell.run("status", found)
    assert status == 0
    assert "5 of 5 images, 3 there already, 1 failed" in out
    assert "60.0 kB moved, 40.0 kB saved (40.0 kB mounted, 0 B there already)" in out
    (line,) = shell.run("migrate", "list")[1].splitlines()[1:]
    assert line.split()[:2] == [found, "failed"]
    status, _, err = shell.run("watch", found)
    assert status == 1
    assert f"try what failed again: transship retry {found}" in err
    assert "1 images again" in shell.run("retry", found)[1]
    copied(shell.bench, second, moved=1)
    status, out, err = shell.run("watch", found)
    assert (status, "hub-to-prod succeeded in" in out) == (0, True)


def test_a_migration_is_cancelled_by_its_id(shell: Shell, spec: Path) -> None:
    _, out, _ = shell.run("migrate", "run", str(spec))
    found = out.split()[0]

    assert shell.run("cancel", found)[1] == f"{found} cancelled hub-to-prod\n"
    status, _, err = shell.run("cancel", found)
    assert (status, "already cancelled; nothing to cancel" in err) == (2, True)


def test_an_id_of_nothing_is_one_line(shell: Shell) -> None:
    for command in (["status"], ["watch"], ["cancel"], ["retry"], ["migrate", "report"]):
        status, out, err = shell.run(*command, JobId.new())
        assert (status, out, err.count("\n")) == (2, "", 1)


def test_a_report_comes_in_four_forms(shell: Shell, spec: Path, tmp_path: Path) -> None:
    _, out, _ = shell.run("migrate", "run", str(spec))
    found = out.split()[0]
    planning = Planning(shell.bench, JobId(found))
    first, second = planning.images(2)
    planning.end()
    copied(shell.bench, first, moved=60)
    failed(shell.bench, second)

    assert "denied" in shell.run("migrate", "report", found)[1]
    report = json.loads(shell.run("migrate", "report", found, "--format", "json")[1])
    assert [image["state"] for image in report["images"]] == ["succeeded", "failed"]
    text = shell.run("migrate", "report", found, "--format", "csv")[1]
    lines = list(csv.DictReader(io.StringIO(text)))
    assert [line["job"] for line in lines] == [first, second]
    page = tmp_path / "report.html"
    status, out, _ = shell.run("migrate", "report", found, "-o", str(page))
    assert (status, out.startswith(f"{page}: hub-to-prod failed")) == (0, True)
    assert page.read_text().startswith("<!doctype html>")
    status, _, err = shell.run("migrate", "report", found, "-o", str(tmp_path / "no" / "x.csv"))
    assert (status, "cannot be written" in err) == (2, True)
    assert [file.name for file in tmp_path.iterdir() if file.name.endswith("part")] == []


def test_a_plan_goes_to_a_file_and_its_summary_to_stdout(stage: Stage, spec: Path) -> None:
    file = stage.folder / "plan.jsonl"
    running = stage.start("migrate", "plan", str(spec), "-o", str(file))
    planning = Planning(stage.bench, migration(stage.bench))
    rows = [row(planning.migration, number) for number in range(1, 4)]
    planning.give(rows)
    assert not file.exists()
    planning.end(rows, warnings='["the tag v1 is odd"]')

    assert running.ends() == 0
    assert [PlanRow.parse(line) for line in file.read_text().splitlines()] == rows
    assert running.out.splitlines() == [
        "hub-to-prod: 3 rows: 3 to copy, 0 to tag, 0 to skip",
        "at most 300 B to move",
    ]
    assert running.err == "transship: warning: the tag v1 is odd\n"


def test_a_plan_on_stdout_is_a_plan_and_nothing_else(stage: Stage, spec: Path) -> None:
    running = stage.start("migrate", "plan", str(spec), "--json")
    planning = Planning(stage.bench, migration(stage.bench))
    rows = [row(planning.migration, 1)]
    planning.give(rows)
    planning.end(rows)

    assert running.ends() == 0
    assert [PlanRow.parse(line) for line in running.out.splitlines()] == rows
    assert json.loads(running.err)["bytes_to_move"] == 100


def test_a_plan_that_fails_leaves_no_file(stage: Stage, spec: Path) -> None:
    file = stage.folder / "plan.jsonl"
    running = stage.start("migrate", "plan", str(spec), "-o", str(file))
    planning = Planning(stage.bench, migration(stage.bench))
    planning.give([row(planning.migration, 1)])
    planning.fail()

    assert running.ends() == 1
    assert "denied: no right to push" in running.err
    assert [path.name for path in stage.folder.iterdir() if "plan" in path.name] == []


def test_a_planning_that_is_tried_again_says_why(stage: Stage, spec: Path) -> None:
    running = stage.start("migrate", "plan", str(spec))
    planning = Planning(stage.bench, migration(stage.bench))
    away = ErrorInfo(code="registry_unreachable", message="no answer", retryable=True)
    stage.bench.claims.try_later(planning.claim, away, 3600)
    running.says("warning: registry_unreachable: no answer; the planning is tried again")
    running.process.send_signal(signal.SIGINT)

    assert running.ends() == 130
    assert running.out == ""


def test_a_part_that_cannot_be_planned_leaves_the_rest_and_status_1(
    stage: Stage, spec: Path
) -> None:
    file = stage.folder / "plan.jsonl"
    running = stage.start("migrate", "plan", str(spec), "-o", str(file))
    planning = Planning(stage.bench, migration(stage.bench))
    rows = [row(planning.migration, 1)]
    planning.give(rows)
    error = json.dumps({"code": "plan_failed", "message": "no", "retryable": False})
    planning.end(rows, failures='["hub/acme/dog: no such repository"]', error=error)

    assert running.ends() == 1
    assert len(file.read_text().splitlines()) == 1
    assert "hub/acme/dog: no such repository" in running.err


def test_ctrl_c_ends_the_planning(stage: Stage, spec: Path) -> None:
    running = stage.start("migrate", "plan", str(spec))
    planning = Planning(stage.bench, migration(stage.bench))
    planning.give([row(planning.migration, 1)])
    eventually(lambda: not stage.bench.redis.exists(stage.bench.keys.plan(planning.migration)))
    running.process.send_signal(signal.SIGINT)

    assert running.ends() == 130
    assert "interrupted; the planning was cancelled" in running.err
    assert stage.bench.claims.report(planning.claim)[1]


def test_the_head_of_a_plan_is_run_from_standard_input(stage: Stage) -> None:
    plan = JobId.new()
    file = stage.folder / "plan.jsonl"
    file.write_text("".join(f"{row(plan, number).to_json()}\n" for number in range(1, 9)))
    script = f"head -n 5 {file} | {TRANSSHIP} migrate run - --json"
    found = json.loads(sh(stage, script))

    request = stage.bench.ledger.request(JobId(found["id"]))
    assert isinstance(request, MigrationRequest)
    assert (request.rows, request.name) == (5, "plan")


def test_a_plan_is_known_by_its_content(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "to review.yaml"
    file.write_text(row(JobId.new(), 1).to_json())
    (found,) = shell.objects("migrate", "run", str(file))

    assert found["name"] == "to-review"
    status, _, err = shell.run("migrate", "plan", str(file))
    assert (status, "is a plan already; run it" in err) == (2, True)


def test_a_wait_writes_lines_and_ends_as_the_migration_does(stage: Stage, spec: Path) -> None:
    running = stage.start("migrate", "run", str(spec), "--wait")
    found = migration(stage.bench)
    running.says(f"hub-to-prod is migration {found}, queued")
    planning = Planning(stage.bench, found)
    (job,) = planning.images(1)
    running.says("hub-to-prod running")
    planning.end()
    copied(stage.bench, job, moved=100)

    assert running.ends() == 0
    assert "hub-to-prod succeeded in" in running.out
    assert "1 of 1 images; 100 B moved" in running.out


@pytest.mark.parametrize("as_json", [False, True])
def test_a_wait_ends_with_the_warnings_of_images(shell: Shell, spec: Path, as_json: bool) -> None:
    _, out, _ = shell.run("migrate", "run", str(spec))
    found = out.split()[0]
    planning = Planning(shell.bench, JobId(found))
    jobs = planning.images(8)
    planning.end()
    for number, job in enumerate(jobs, 1):
        copied(shell.bench, job, moved=1, warnings=["the tag was moved"] if number > 1 else [])

    status, out, err = shell.run("watch", found, *(["--json"] if as_json else []))
    assert status == 0
    named = [f"registry.example.com/ml/cat:v{number}: the tag was moved" for number in range(2, 7)]
    see = f"7 images have warnings; see all: transship migrate report {found} --format json"
    warned = [line for line in err.splitlines() if "warning" in line]
    assert warned == [f"transship: warning: {text}" for text in [*named, see]]
    if as_json:
        last = json.loads(out.splitlines()[-1])["image_warnings"]
        assert last == {"images": 7, "complete": True, "first": named}


def test_a_wait_that_is_interrupted_says_how_to_go_on(stage: Stage, spec: Path) -> None:
    running = stage.start("migrate", "run", str(spec), "--wait")
    found = migration(stage.bench)
    running.says("queued")
    running.process.send_signal(signal.SIGINT)

    assert running.ends() == 130
    assert f"migration {found} goes on" in running.err
    assert f"transship cancel {found}" in running.err


def test_a_wait_ends_in_time_with_status_4(stage: Stage, spec: Path) -> None:
    running = stage.start("migrate", "run", str(spec), "--wait", "--timeout", "1")

    assert running.ends() == 4
    assert "still waiting after 1s" in running.err


def test_a_wait_outlives_a_restart_of_redis(tmp_path: Path, spec: Path) -> None:
    with RedisServer() as server, staging(server.url, tmp_path) as stage:
        running = stage.start("migrate", "run", str(spec), "--wait")
        planning = Planning(stage.bench, migration(stage.bench))
        (job,) = planning.images(1)
        planning.end()
        running.says("running")
        server.kill9()
        running.says("still trying")
        server.start()
        copied(stage.bench, job, moved=100)

        assert running.ends() == 0
        assert "hub-to-prod succeeded in" in running.out


def test_watching_as_json_prints_the_object_whenever_it_is_another(
    stage: Stage, spec: Path
) -> None:
    (found,) = [json.loads(sh(stage, f"{TRANSSHIP} migrate run {spec} --json"))]
    running = stage.start("watch", found["id"], "--json")
    eventually(lambda: running.out, what="the first object")
    planning = Planning(stage.bench, JobId(found["id"]))
    (job,) = planning.images(1)
    planning.end()
    eventually(lambda: "running" in running.out, what="another object")
    copied(stage.bench, job, moved=100)

    assert running.ends() == 0
    states = [json.loads(line)["state"] for line in running.out.splitlines()]
    assert (states[0], states[-1]) == ("queued", "succeeded")
    assert len(running.out.splitlines()) == len(set(running.out.splitlines()))


def test_a_terminal_shows_bars(stage: Stage, spec: Path) -> None:
    screen = on_terminal(stage, "migrate", "run", str(spec), "--wait", piped=True)
    planning = Planning(stage.bench, migration(stage.bench))
    first, second = planning.images(2)
    planning.end()
    copied(stage.bench, first, moved=60, mounted=40)
    screen.shows("1 of 2 images")
    screen.shows("60 B moved, 40 B saved (40 B by mounts)")
    failed(stage.bench, second)
    screen.shows("1 failed")

    assert screen.ends() == 1
