"""The catalogue commands, as a user of the command line meets them."""

from __future__ import annotations

import io
import json
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from transship.cli import main
from transship_worker.catalog import Catalog
from transship_worker.catalog.file import Document
from transship_worker.fleet.limits import Limits


@dataclass(frozen=True)
class Outcome:
    status: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "catalog.yaml"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, file: Path) -> Run:
    """``transship registry …`` with the test's catalogue."""

    def command(
        *arguments: str, stdin: str = "", environment: Mapping[str, str] | None = None
    ) -> Outcome:
        monkeypatch.setenv("TRANSSHIP_CATALOG", str(file))
        for name, value in (environment or {}).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        status = main(["registry", *arguments])
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    return command


def data(file: Path) -> object:
    return Document.parse(file, file.read_text()).data


def register(run: Run, name: str = "prod", *more: str, stdin: str = "") -> Outcome:
    words = ["register", name, "--flavor", "default", "--uri", "registry.example.com/ml/", *more]
    return run(*words, stdin=stdin)


def test_registering_says_what_and_where_and_the_worker_can_read_it(run: Run, file: Path) -> None:
    done = register(run)
    assert (done.status, done.err) == (0, "")
    assert done.out == f"registered prod (default, registry.example.com/ml) in {file}\n"
    assert Catalog.open(file).registry("prod").uri == "registry.example.com/ml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_option_comes_before_the_variable(run: Run, file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    done = register(run, "prod", "--catalog", str(other))
    assert done.out.endswith(f"in {other}\n")
    assert not file.exists()


def test_without_either_the_users_own_catalogue_is_meant(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home" / "config"))
    words = ["register", "prod", "--flavor", "default", "--uri", "registry.example.com"]
    done = run(*words, environment={"TRANSSHIP_CATALOG": ""})
    assert done.status == 0
    assert str(tmp_path / "home") in done.out
    assert "transship/catalog.yaml" in done.out


def test_options_are_written_as_the_flavor_takes_them(
    run: Run, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    uri = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/ml"
    done = run(
        *["register", "ecr", "--flavor", "aws", "--uri", uri],
        *["--set", "account=123456789012"],
        *["--set", "create=false"],
        *["--set", "tags={team: ml}"],
        *["--set", "mutability_exclusions=[latest]"],
        *["--set", "lifecycle_policy=policy.json"],
        *["--set", "access_key_id=env:ML_KEY"],
        *["--set", "secret_access_key=file:secrets/ml"],
    )
    assert (done.status, done.err) == (0, "")
    assert data(file) == {
        "registries": {
            "ecr": {
                "flavor": "aws",
                "uri": uri,
                "account": "123456789012",
                "create": False,
                "tags": {"team": "ml"},
                "mutability_exclusions": ["latest"],
                "lifecycle_policy": str(tmp_path / "policy.json"),
                "access_key_id": {"env": "ML_KEY"},
                "secret_access_key": {"file": str(tmp_path / "secrets" / "ml")},
            }
        }
    }


def test_options_for_copies_are_written_by_the_command_and_read_back(run: Run, file: Path) -> None:
    file.write_text("# Mine.\nanonymous_sources: [docker.io]  # public\n")
    done = register(
        run,
        "prod",
        *["--set", "endpoint=http://registry:5000"],
        *["--set", "auth_realms=[auth.example.com]"],
        *["--set", "allow=[copy_from, copy_to]"],
        *["--set", "limits={requests_per_second: 50, transfers: 8, bytes_per_second: 100MB}"],
    )
    assert (done.status, done.err) == (0, "")
    assert file.read_text().startswith("# Mine.\nanonymous_sources: [docker.io]  # public\n")
    found = Catalog.open(file)
    assert found.current().anonymous_sources == {"docker.io"}
    made = found.registry("prod")
    assert made.endpoint == "http://registry:5000"
    assert made.allow == {"copy_from", "copy_to"}
    assert made.limits == Limits(50, 8, 100_000_000)
    refused = run("prepare", "prod", "registry.example.com/ml/train:42")
    assert refused.status == 1
    assert "component 'prod' is not for push: it says allow: [copy_from, copy_to]" in refused.err


def test_a_password_comes_from_standard_input_and_is_kept_from_others(run: Run, file: Path) -> None:
    file.write_text("registries: {}\n")
    file.chmod(0o644)
    words = ["--set", "username=pusher", "--password-stdin"]
    done = register(run, "prod", *words, stdin="hunter22\n")
    assert done.status == 0
    assert "only its user can read it, as it holds a password" in done.out
    assert "hunter22" not in done.out + done.err
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    credentials = Catalog.open(file).registry("prod").credentials()
    assert credentials is not None
    assert credentials.password.get_secret_value() == "hunter22"


@pytest.mark.parametrize(
    ("arguments", "stdin", "right"),
    [
        (["--set", "password=hunter22"], "", ("write --set password=env:NAME or --set password="
         "file:PATH, or --password-stdin")),
        (["--set", "hunter22hunter22hunter22"], "", "write --set KEY=VALUE"),
        (["--set", "pasword=env:X"], "", "unknown option 'pasword'; did you mean 'password'?"),
        (["--set", "uri=x"], "", "--set uri: write --uri instead"),
        (["--set", "insecure=true", "--set", "insecure=false"], "", "insecure is given twice"),
        (["--set", "insecure=perhaps"], "", "prod: insecure should be a valid boolean"),
        (["--set", "allow=push"], "", "prod: allow must be a list of some of push, copy_from"),
        (["--set", "limits=4"], "", "prod: limits must be a mapping, for example limits: {"),
        (["--set", "limits={transfers: many}"], "", "must be a positive whole number, such as 4"),
        (["--set", "endpoint=http://u:hunter22@r"], "", "prod: endpoint is not a base URL"),
        (["--set", "username=u"], "", "username needs a password"),
        (["--password-stdin"], "hunter22\n", "prod: password needs a username"),
        (["--password-stdin", "--set", "username=u"], "", "standard input must hold one line"),
        (["--password-stdin", "--set", "username=u"], "a\nb\n", "must hold one line"),
        (["--password-stdin", "--set", "password=env:X"], "x", "choose one: --set password"),
        (["--set", "username=u", "--set", "password=env:$X"], "", "without '$' or braces"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_with_status_2_and_nothing_is_written(
    run: Run, file: Path, arguments: list[str], stdin: str, right: str
) -> None:
    done = register(run, "prod", *arguments, stdin=stdin)
    assert done.status == 2
    assert done.err.startswith("transship: ")
    assert len(done.err.splitlines()) == 1
    assert right in done.err
    assert "hunter22hunter22hunter22" not in done.err
    assert done.out == ""
    assert not file.exists()


@pytest.mark.parametrize(
    ("arguments", "right"),
    [
        (["x", "--flavor", "dockerhb", "--uri", "docker.io/a"], "no flavor 'dockerhb'; did you"),
        (["x", "--flavor", "dockerhub", "--uri", "quay.io/a"], "x: uri 'quay.io/a' is not on"),
        (["a b", "--flavor", "default", "--uri", "a.example.com"], "a component's name is up to"),
        (["x", "--flavor", "default"], "missing option '--uri'"),
        (["x", "--flavor", "default", "--uri", "https://u:hunter22@a.b"], "must not hold a login"),
    ],
)
def test_a_wrong_component_is_refused(run: Run, arguments: list[str], right: str) -> None:
    done = run("register", *arguments)
    assert done.status == 2
    assert right in done.err
    assert "hunter22" not in done.err


def test_a_name_that_is_taken_is_refused_with_its_place(run: Run, file: Path) -> None:
    register(run)
    done = register(run)
    assert done.status == 2
    assert f"'prod' is in {file}:3 already" in done.err
    assert "transship registry delete prod" in done.err


def test_deleting_says_from_where_and_an_unknown_name_what_is_near(run: Run, file: Path) -> None:
    register(run)
    wrong = run("delete", "prd")
    assert wrong.status == 2
    assert "no component 'prd'; did you mean 'prod'? known: prod" in wrong.err
    done = run("delete", "prod")
    assert (done.status, done.out) == (0, f"deleted prod from {file}\n")
    assert Catalog.open(file).names == []


def test_a_catalogue_with_mistakes_shows_them_all_and_stays(run: Run, file: Path) -> None:
    file.write_text("registries:\n  a: {flavor: nope, uri: a.example.com}\n  b:\n")
    for done in (register(run), run("delete", "a"), run("check", "a"), run("flavor", "list")):
        assert done.status == 2
        assert f"{file}:2: a: no flavor 'nope'" in done.err
        assert f"{file}:3: b: must be a mapping" in done.err
    assert "prod" not in file.read_text()


def test_commands_on_no_catalogue_say_how_to_make_one(run: Run, file: Path) -> None:
    for words in (["delete", "x"], ["check", "x"], ["prepare", "x", "a.example.com/x"]):
        done = run(*words)
        assert done.status == 2
        assert f"there is no catalogue at {file}" in done.err


def test_flavors_are_listed_with_class_integration_and_use(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def installed(module: str) -> bool:
        return module != "azure.identity"

    monkeypatch.setattr("transship_worker.flavors.installed", installed)
    monkeypatch.setattr("transship_worker.flavors.extra_hint", lambda extra: f"add {extra}")
    done = run("flavor", "list")
    assert done.status == 0
    lines = [line.split() for line in done.out.splitlines()]
    assert lines[0] == ["FLAVOR", "CLASS", "INTEGRATION", "USABLE"]
    assert ["default", "transship_worker.flavors.default.DefaultRegistry", "built-in", "yes"] in (
        lines
    )
    [azure] = [line for line in done.out.splitlines() if line.startswith("azure")]
    assert azure.endswith("extra        no: add azure")


def test_flavors_are_listed_as_json_lines(run: Run, file: Path) -> None:
    file.write_text("")
    done = run("flavor", "list", "--json")
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [row["flavor"] for row in rows] == [
        *("default", "dockerhub", "gcp", "azure", "aws", "layout")
    ]
    assert rows[2] == {
        "flavor": "gcp",
        "class": "transship_worker.flavors.gcp.GcpRegistry",
        "integration": "extra",
        "usable": True,
        "hint": "",
    }
    assert f"read {file}" in done.err


def write_flavor(folder: Path, module: str) -> None:
    (folder / f"{module}.py").write_text(
        "from transship_worker import BaseContainerRegistry\n"
        "class Scanned(BaseContainerRegistry):\n"
        f"    FLAVOR = '{module}'\n"
        "    scanner: str = 'none'\n"
        "    def prepare_image_push(self, image_name):\n"
        "        if 'bad' in image_name:\n"
        "            raise ValueError(f'{image_name} was not scanned')\n"
        "        self.note(f'{image_name} was scanned by {self.scanner}')\n"
    )


def test_a_custom_flavor_is_registered_by_its_source_path_and_used(
    run: Run, file: Path, tmp_path: Path
) -> None:
    write_flavor(tmp_path, "cli_scanned")
    source = "cli_scanned.Scanned"
    done = run("flavor", "register", source, "--path", str(tmp_path))
    assert (done.status, done.err) == (0, "")
    assert done.out == f"registered flavor cli_scanned ({source}) in {file}\n"
    again = run("flavor", "register", source)
    assert (again.status, again.out) == (0, f"flavor cli_scanned ({source}) is in {file} already\n")
    words = ["--flavor", "cli_scanned", "--uri", "lab.example.com", "--set", "scanner=trivy"]
    assert run("register", "lab", *words).status == 0
    listed = run("flavor", "list", "--json")
    assert json.loads(listed.out.splitlines()[-1]) == {
        "flavor": "cli_scanned",
        "class": source,
        "integration": "custom",
        "usable": True,
        "hint": "",
    }
    good = run("prepare", "lab", "lab.example.com/good:1")
    assert (good.status, good.out.splitlines()) == (
        0,
        [
            "lab.example.com/good:1 was scanned by trivy",
            "lab.example.com/good:1 can be pushed to lab",
        ],
    )
    assert f"read {file}" in good.err
    bad = run("prepare", "lab", "lab.example.com/bad:1")
    assert (bad.status, bad.out) == (1, "")
    assert bad.err.splitlines()[-1] == "transship: lab.example.com/bad:1 was not scanned"


@pytest.mark.parametrize(
    ("arguments", "right"),
    [
        (["no_such_module.Flavor"], "there is no module no_such_module"),
        (["os.path.join"], "is not a class"),
        (["x"], "is not a source path"),
        (["cli_wrong.Scanned", "--path", "/no/such/folder"], "--path /no/such/folder is not a"),
    ],
)
def test_a_wrong_flavor_is_refused_and_nothing_is_written(
    run: Run, file: Path, arguments: list[str], right: str
) -> None:
    done = run("flavor", "register", *arguments)
    assert done.status == 2
    assert right in done.err
    assert len(done.err.splitlines()) == 1
    assert not file.exists()


def test_preparing_a_foreign_image_shows_what_would_be_right(run: Run) -> None:
    register(run)
    done = run("prepare", "prod", "train:42")
    assert done.status == 2
    assert "'train:42' means docker.io/library/train:42, which is not under" in done.err
    assert "write: transship push registry.example.com/ml/train:42 --source train:42" in done.err


def test_preparing_where_nothing_is_to_be_done_says_so(run: Run) -> None:
    register(run)
    done = run("prepare", "prod", "registry.example.com/ml/train:42")
    assert (done.status, done.out.splitlines()) == (
        0,
        [
            "nothing had to be done",
            "registry.example.com/ml/train:42 can be pushed to prod",
        ],
    )


def test_a_check_names_every_missing_piece_and_fails(run: Run, file: Path, tmp_path: Path) -> None:
    register(run, "prod", "--set", "username=u", "--set", "password=env:CLI_TEST_UNSET")
    done = run("check", "prod", environment={"DOCKER_HOST": f"unix://{tmp_path}/none"})
    assert done.status == 1
    lines = done.out.splitlines()
    assert lines[0] == f"ok    catalogue    {file}: prod is default at registry.example.com/ml"
    assert lines[1].startswith("FAIL  credentials  component 'prod' takes its password from the")
    assert "CLI_TEST_UNSET" in lines[1]
    assert lines[2].startswith("FAIL  engine")
    assert str(tmp_path) in lines[2]
    assert lines[3] == (
        "-     registry     not asked: it is reached through the engine; --no-engine asks it as "
        "copies do"
    )
    assert "CLI_TEST_UNSET" not in os.environ
