"""The command table, and what becomes of errors."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import click
import pytest
from click.testing import CliRunner

from transship.cli import cli, main
from transship.cli.lazy import Entry, LazyGroup
from transship.errors import CatalogError, JobFailed, RedisUnreachable, WaitTimeout
from transship_config import __version__
from transship_config.errors import TransshipError, UsageError

#: Puts a command in place of ``transship status``.
Put = Callable[[click.Command], None]

#: What listing and mistyping must not load.
HEAVY = {"pydantic", "celery", "kombu", "redis", "rich", "docker", "boto3", "platformdirs"}


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def groups() -> list[LazyGroup]:
    found = [cli]
    for name in ("migrate", "registry"):
        group = cli.get_command(click.Context(cli, info_name="transship"), name)
        assert isinstance(group, LazyGroup)
        found.append(group)
    return found


def raising(error: BaseException) -> click.Command:
    @click.command
    def stub() -> None:
        raise error

    return stub


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Put:
    def put(replacement: click.Command) -> None:
        monkeypatch.setattr("transship.cli.jobs.status", replacement)

    return put


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], []])
def test_listing_the_commands_imports_no_library_but_click(arguments: list[str]) -> None:
    done = python(
        "import sys; from transship.cli import main\n"
        "try: main(" + repr(arguments) + ")\n"
        "except SystemExit: pass\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    assert done.stdout.splitlines()[-1] == "[]", done


@pytest.mark.parametrize("command", ["push", "copy", "migration.command"])
def test_what_only_enqueues_loads_neither_rich_nor_yaml_nor_the_waiting(command: str) -> None:
    waiting = ("rich", "ruamel", "transship.cli.wait", "transship.cli.migration.wait")
    done = python(
        f"import sys; import transship.cli.{command}\n"
        f"print([m for m in sys.modules if m.startswith({waiting!r})])"
    )
    assert done.stdout == "[]\n", done


def test_every_line_of_help_is_how_the_commands_own_help_begins() -> None:
    for group in groups():
        ctx = click.Context(group, info_name="transship")
        for name, entry in group.table.items():
            loaded = group.get_command(ctx, name)
            assert loaded is not None
            assert loaded.get_short_help_str(300).startswith(entry.summary.rstrip(".")), name


def test_help_lists_all_commands_in_the_order_of_the_table() -> None:
    shown = CliRunner().invoke(cli, ["--help"]).output
    places = [shown.index(f"\n  {name} ") for name in cli.table]
    assert places == sorted(places)


def test_the_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"transship {__version__}\n"


def test_without_arguments_help_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Usage: transship")


def test_a_mistyped_command_is_answered_with_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["psuh"]) == 2
    assert capsys.readouterr().err.startswith("transship: no command 'psuh'; did you mean 'push'?")
    assert main(["registry", "lst"]) == 2
    assert "did you mean 'list'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["push", "x", "--regstry", "p"], "no such option '--regstry'. Did you mean '--registry'?"),
        (["push"], "missing argument 'IMAGE...'. (transship push --help)"),
        (["jobs", "--state", "done"], "'done' is not one of 'queued', 'running', 'retrying',"),
        (["jobs", "--limit", "0"], "invalid value for '--limit'"),
        (["push", "a", "b", "--source", "c"], "--source is tagged as one IMAGE"),
        (["push", "a", "--timeout", "5"], "--timeout ends a wait; add --wait"),
        (["migrate", "run", "absent.yaml"], "absent.yaml: no such file or directory"),
        (["migrate", "run", "-", "--timeout", "5"], "--timeout ends a wait; add --wait"),
        (["migrate", "plan", "absent.yaml"], "absent.yaml: no such file or directory"),
        (["migrate", "report", "x", "--format", "pdf"], "'pdf' is not one of 'text', 'json',"),
        (["migrate", "rn"], "did you mean 'run'?"),
        (["push", "a", "-q", "--json"], "choose one"),
        (["push", "a", "--label", "x"], "'x' is not a label; write KEY=VALUE"),
        (["push", "a", "--label", "x=1", "--label", "x=2"], "'x' is given twice"),
        (["push", "a", "--wait", "--timeout", "10x"], "'10x' is not a length of time"),
        (["push", "a", "--platform", "arm64"], "'arm64' is no platform; write os/arch, such as"),
        (["push", "a", "--platform", "linux/arm64", "--require-all-platforms"], "choose one: --pl"),
        (["push", "a", "--deadline", "31d"], "'31d' is not between 1s and 30d"),
        (["push", "a", "--expires", "0"], "'0' is not between 1s and 30d"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("transship: ")
    assert err.count("\n") == 1
    assert message in err


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UsageError("wrong"), 2),
        (RedisUnreachable("away"), 3),
        (WaitTimeout("late"), 4),
        (JobFailed("failed"), 1),
        (TransshipError("other"), 1),
    ],
)
def test_an_error_of_ours_is_one_line_and_its_own_exit_status(
    error: TransshipError, status: int, command: Put, capsys: pytest.CaptureFixture[str]
) -> None:
    command(raising(error))
    assert main(["status"]) == status
    assert capsys.readouterr() == ("", f"transship: {error.message}\n")


def test_a_catalogue_with_several_mistakes_keeps_a_line_for_each(
    command: Put, capsys: pytest.CaptureFixture[str]
) -> None:
    command(raising(CatalogError("c.yaml: 2 mistakes\nline 1: a\x1b[2J\nline 2: b")))
    assert main(["status"]) == 2
    lines = ["transship: c.yaml: 2 mistakes", "  line 1: a\\x1b[2J", "  line 2: b"]
    assert capsys.readouterr().err.splitlines() == lines


def test_what_nobody_expected_is_one_line_too_unless_debugging(
    command: Put, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command(raising(ZeroDivisionError("division by zero")))
    assert main(["status"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("transship: unexpected ZeroDivisionError: division by zero")
    assert "TRANSSHIP_LOG_LEVEL=debug" in err
    assert "Traceback" not in err
    monkeypatch.setenv("TRANSSHIP_LOG_LEVEL", "debug")
    with pytest.raises(ZeroDivisionError):
        main(["status"])


def test_an_interrupt_outside_of_a_wait_is_130(
    command: Put, capsys: pytest.CaptureFixture[str]
) -> None:
    command(raising(KeyboardInterrupt()))
    assert main(["status"]) == 130
    assert capsys.readouterr().err.endswith("transship: interrupted\n")


def test_a_commands_own_exit_status_comes_back(command: Put) -> None:

    @click.command
    @click.pass_context
    def stub(ctx: click.Context) -> None:
        ctx.exit(7)

    command(stub)
    assert main(["status"]) == 7


@pytest.mark.parametrize("inside", [False, True])
def test_a_workers_command_without_its_libraries_names_the_extra(
    inside: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # A module that is missing when the command is imported, or only when it runs.
    source = "import absent_library\n"
    if inside:
        source = "import click\n@click.command\ndef worker():\n    import absent_library\n"
    _add_module(monkeypatch, "transship_worker.stub_for_tests", source)
    monkeypatch.setitem(cli.table, "worker", Entry("transship_worker.stub_for_tests:worker", ""))
    monkeypatch.setattr("transship.installation.extra_hint", lambda extra: f"add {extra}")
    assert main(["worker"]) == 2
    assert capsys.readouterr().err == (
        "transship: `transship worker` needs the extra 'worker' (no module 'absent_library'); "
        "hint: add worker\n"
    )


def test_a_missing_module_of_our_own_is_not_blamed_on_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(cli.table, "worker", Entry("transship_worker.never_written:worker", ""))
    assert main(["worker"]) == 1
    assert "unexpected ModuleNotFoundError" in capsys.readouterr().err


def test_completion_offers_names_without_importing_the_commands() -> None:
    done = python(
        "import os, sys; from transship.cli import main\n"
        "os.environ.update(_TRANSSHIP_COMPLETE='bash_complete', COMP_WORDS='transship wo',"
        " COMP_CWORD='1')\n"
        "try: main([])\n"
        "except SystemExit: pass\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    assert done.stdout.splitlines() == ["plain,workers", "plain,worker", "[]"], done


def test_the_package_runs_as_a_module_too() -> None:
    command = [sys.executable, "-m", "transship", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"transship {__version__}\n"


def _add_module(monkeypatch: pytest.MonkeyPatch, name: str, source: str) -> None:
    """Make ``source`` importable as ``name``, each import running it anew."""
    import importlib.abc
    import importlib.machinery
    import types

    class Loader(importlib.abc.Loader):
        def exec_module(self, module: types.ModuleType) -> None:
            exec(compile(source, name, "exec"), module.__dict__)

    class Finder(importlib.abc.MetaPathFinder):
        def find_spec(
            self, fullname: str, path: object, target: object = None
        ) -> importlib.machinery.ModuleSpec | None:
            return importlib.machinery.ModuleSpec(name, Loader()) if fullname == name else None

    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    monkeypatch.delitem(sys.modules, name, raising=False)
