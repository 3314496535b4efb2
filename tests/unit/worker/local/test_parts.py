"""The programs that `transship up` keeps running, each a real process here."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import eventually
from transship_config.errors import TransshipError
from transship_worker.local.parts import Part, free_port


def part(tmp_path: Path, script: str) -> Part:
    return Part("the part", [sys.executable, "-c", script], os.environ, tmp_path / "part.log")


def says(part: Part, text: str) -> bool:
    assert part.log is not None
    return text in part.log.read_text()


def test_a_part_runs_until_it_is_stopped(tmp_path: Path) -> None:
    one = part(tmp_path, "import signal; print('up', flush=True); signal.pause()")
    one.start()
    eventually(lambda: says(one, "up"))
    assert one.running
    assert one.stop(10)
    assert not one.running


def test_a_part_that_will_not_end_is_killed(tmp_path: Path) -> None:
    one = part(
        tmp_path,
        "import signal; signal.signal(15, signal.SIG_IGN)\n"
        "print('up', flush=True)\nwhile True: signal.pause()",
    )
    one.start()
    eventually(lambda: says(one, "up"))
    assert not one.stop(0.1)
    one.kill()
    assert "was killed by SIGKILL" in str(one.death())


def test_a_part_that_ended_tells_its_status_and_the_end_of_its_log(tmp_path: Path) -> None:
    one = part(tmp_path, "import sys; print('no room left'); sys.exit(7)")
    one.start()
    assert one.ended_within(10)
    message = one.death().message
    assert "the part ended with status 7" in message
    assert message.endswith("no room left")


def test_a_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    one = Part("Redis", [str(tmp_path / "nothing")], {}, tmp_path / "log")
    with pytest.raises(TransshipError, match="Redis cannot be started"):
        one.start()
    assert not one.running
    assert one.stop(1)


def test_ctrl_c_on_the_terminal_does_not_reach_a_part(tmp_path: Path) -> None:
    one = part(tmp_path, "import signal; print('up', flush=True); signal.pause()")
    one.start()
    try:
        assert one.pid is not None
        assert os.getpgid(one.pid) != os.getpgrp()
    finally:
        one.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="prctl(2) is Linux's")
def test_a_part_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from transship_worker.local.parts import Part\n"
        "one = Part('p', [sys.executable, '-c', 'import signal; signal.pause()'], os.environ,"
        f" Path({str(tmp_path / 'log')!r}))\n"
        "one.start(); print(one.pid, flush=True); signal.pause()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    eventually(lambda: not _lives(child), what="the child's end")


def test_a_free_port_is_the_wanted_one_unless_it_is_taken() -> None:
    port = free_port()
    assert free_port(port) == port
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        assert free_port(port) != port


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        # The second one: it ended between the opening and the reading.
        return False
    # A zombie waits only for somebody to collect it.
    return state != "Z"
