"""Waiting for jobs with the real command: exit statuses, Ctrl-C and pipes.

The tests play the worker through the ledger, so that each change comes when they say.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path

from tests.support.ledger.bench import BROKEN
from tests.support.processes import eventually
from tests.support.servers.redis import RedisServer
from tests.support.workers.command_line import (
    COMMAND,
    DIGEST,
    PATIENCE_S,
    REPOSITORY,
    Stage,
    staging,
)
from transship.model.records import Progress


def test_a_waited_success_prints_what_cannot_move_and_exits_with_0(stage: Stage) -> None:
    push = stage.push("42")
    stage.succeed("42")
    assert push.ends() == 0
    assert push.out == f"{REPOSITORY}@{DIGEST}\n"


def test_quiet_prints_the_digest_and_no_progress(stage: Stage) -> None:
    push = stage.push("42", options=["-q"])
    stage.succeed("42")
    assert push.ends() == 0
    assert push.out == f"{REPOSITORY}@{DIGEST}\n"
    # That no worker is alive is a warning, which is no progress.
    assert [line.split(":")[1] for line in push.err.splitlines()] == [" warning"]


def test_json_prints_the_jobs_object_at_its_end(stage: Stage) -> None:
    push = stage.push("42", options=["--json"])
    job = stage.succeed("42")
    assert push.ends() == 0
    (line,) = push.out.splitlines()
    found = json.loads(line)
    assert (found["id"], found["state"], found["digest"]) == (job, "succeeded", DIGEST)


def test_a_waited_failure_exits_with_1_and_says_how_to_go_on(stage: Stage) -> None:
    push = stage.push("42")
    job = stage.fail("42")
    assert push.ends() == 1
    assert push.out == ""
    assert f"transship: {REPOSITORY}:42 failed (denied): no right to push\n" in push.err
    assert push.err.endswith(f"transship retry {job}\n")


def test_several_images_exit_with_1_when_one_fails(stage: Stage) -> None:
    push = stage.push("1", "2", "3")
    for tag in ("1", "3"):
        stage.succeed(tag)
    stage.fail("2")
    assert push.ends() == 1
    assert push.out == f"{REPOSITORY}@{DIGEST}\n" * 2
    assert f"{REPOSITORY}:2 failed (denied)" in push.err


def test_more_images_than_are_read_at_once_all_end(stage: Stage) -> None:
    tags = [str(n) for n in range(40)]
    push = stage.push(*tags, options=["--json"])
    for tag in reversed(tags):
        stage.succeed(tag)
    assert push.ends() == 0
    images = {json.loads(line)["image"] for line in push.out.splitlines()}
    assert images == {f"{REPOSITORY}:{tag}" for tag in tags}


def test_each_change_of_state_is_a_line_when_piped(stage: Stage) -> None:
    push = stage.push("42")
    job = stage.job("42")
    push.says(f"queued as {job}")
    claim = stage.bench.claimed(job)
    push.says("running on worker-1")
    stage.bench.claims.try_later(claim, BROKEN, 3600)
    push.says("retrying (registry_unavailable): it broke")
    stage.bench.let_retry_come_due(job)
    claim = stage.bench.claimed(job)
    push.says("running on worker-1, attempt 2")
    for done in range(50):
        progress = Progress(bytes_done=done, bytes_total=50)
        stage.bench.claims.report(claim, step="pushing", progress=progress)
    stage.bench.succeed(claim, DIGEST)
    assert push.ends() == 0
    lines = [line for line in push.err.splitlines() if re.match(r"\d\d:\d\d:\d\d ", line)]
    assert [line.split(" ", 2)[2] for line in lines] == [
        f"queued as {job}",
        "running on worker-1",
        "retrying (registry_unavailable): it broke; again in 3600 s",
        "running on worker-1, attempt 2",
        "succeeded",
    ]
    assert "\x1b" not in push.err


def test_a_wait_that_times_out_exits_with_4_and_the_job_goes_on(stage: Stage) -> None:
    push = stage.push("42", options=["--timeout", "1"])
    job = stage.job("42")
    assert push.ends() == 4
    assert f"job {job} goes on" in push.err
    assert f"transship watch {job}" in push.err
    assert stage.bench.record(job).state == "queued"


def test_a_failure_weighs_more_than_a_wait_that_timed_out(stage: Stage) -> None:
    push = stage.push("1", "2", options=["--timeout", "3"])
    stage.fail("1")
    assert push.ends() == 1
    assert f"job {stage.job('2')} goes on" in push.err


def test_control_c_exits_with_130_and_the_job_goes_on(stage: Stage) -> None:
    push = stage.push("42")
    job = stage.job("42")
    push.says("queued as")
    push.process.send_signal(signal.SIGINT)
    assert push.ends() == 130
    assert f"transship: interrupted; job {job} goes on\n" in push.err
    assert f"transship watch {job}\n" in push.err
    assert f"transship cancel {job}\n" in push.err
    assert "Traceback" not in push.err
    assert stage.bench.record(job).state == "queued"


def test_control_c_names_only_the_jobs_that_go_on(stage: Stage) -> None:
    push = stage.push("1", "2")
    stage.succeed("1")
    eventually(lambda: push.out, what="the first result")
    push.process.send_signal(signal.SIGINT)
    assert push.ends() == 130
    assert push.out == f"{REPOSITORY}@{DIGEST}\n"
    assert f"job {stage.job('2')} goes on" in push.err


def test_watch_follows_a_job_that_another_process_queued(stage: Stage) -> None:
    push = stage.start("push", f"{REPOSITORY}:42", "--registry", "prod", "-q")
    assert push.ends() == 0
    watch = stage.start("watch", push.out.strip())
    watch.says("queued as")
    stage.succeed("42")
    assert watch.ends() == 0
    assert watch.out == f"{REPOSITORY}@{DIGEST}\n"


def test_watch_tells_what_a_job_went_through_before(stage: Stage) -> None:
    first = stage.push("42")
    job = stage.fail("42")
    assert first.ends() == 1
    watch = stage.start("watch", job)
    assert watch.ends() == 1
    assert [line.split(" ", 2)[2] for line in watch.err.splitlines()[:3]] == [
        f"is job {job}",
        "running on worker-1",
        "failed",
    ]


def test_watch_prints_the_jobs_object_whenever_it_changes(stage: Stage) -> None:
    push = stage.push("42", options=["-q"])
    job = stage.job("42")
    watch = stage.start("watch", job, "--json")
    eventually(lambda: '"queued"' in watch.out, what="the first object")
    claim = stage.bench.claimed(job)
    eventually(lambda: '"running"' in watch.out, what="the running object")
    stage.bench.succeed(claim, DIGEST)
    assert (watch.ends(), push.ends()) == (0, 0)
    objects = [json.loads(line) for line in watch.out.splitlines()]
    assert [o["state"] for o in objects] == ["queued", "running", "succeeded"]
    assert objects[-1]["digest"] == DIGEST
    assert watch.err == ""


def test_a_wait_outlives_a_restart_of_redis(tmp_path: Path) -> None:
    with RedisServer() as server, staging(server.url, tmp_path) as stage:
        push = stage.push("42")
        job = stage.job("42")
        claim = stage.bench.claimed(job)
        push.says("running on worker-1")
        server.kill9()
        push.says("still trying")
        server.start()
        stage.bench.succeed(claim, DIGEST)
        assert push.ends() == 0
        assert push.out == f"{REPOSITORY}@{DIGEST}\n"
        assert push.err.count("running on worker-1") == 1


def test_a_reader_that_goes_away_is_not_an_error_to_shout_about(stage: Stage) -> None:
    push = stage.start(
        "push", *[f"{REPOSITORY}:{n}" for n in range(300)], "--registry", "prod", "-q"
    )
    assert push.ends() == 0
    process = subprocess.Popen(
        [*COMMAND, "jobs", "--limit", "300", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=stage.environment,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    process.wait(PATIENCE_S)
