"""Custom flavors by source path: where they are looked for, and what is said of a wrong one."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from transship.errors import CatalogError
from transship_config.errors import UsageError
from transship_worker import BaseContainerRegistry
from transship_worker.catalog import Catalog
from transship_worker.flavors.custom import load

HEAD = "from transship_worker import BaseContainerRegistry\n"
SCANNED = HEAD + dedent(
    """
    class Scanned(BaseContainerRegistry):
        FLAVOR = "scanned"
        scanner: str = "none"
    """
)

_numbers = itertools.count()


@pytest.fixture
def module() -> str:
    """A module name that no other test uses; Python imports a name once."""
    return f"custom_flavor_{next(_numbers)}"


def write(folder: Path, module: str, text: str) -> None:
    (folder / f"{module}.py").write_text(text)


def test_a_class_is_found_on_the_flavor_paths(tmp_path: Path, module: str) -> None:
    write(tmp_path, module, SCANNED)
    found = load(f"{module}.Scanned", paths=[tmp_path])
    assert issubclass(found, BaseContainerRegistry)
    assert found.FLAVOR == "scanned"


def test_a_class_in_a_package_may_import_its_neighbours_when_it_runs(
    tmp_path: Path, module: str
) -> None:
    package = tmp_path / module
    package.mkdir()
    (package / "rules.py").write_text("ALLOWED = 'good'\n")
    (package / "flavor.py").write_text(
        HEAD
        + dedent(
            f"""
            class Strict(BaseContainerRegistry):
                FLAVOR = "strict"

                def prepare_image_push(self, image_name):
                    from {module}.rules import ALLOWED
                    if ALLOWED not in image_name:
                        raise RuntimeError(f"{{image_name}} is not allowed")
            """
        )
    )
    kind = load(f"{module}.flavor.Strict", paths=[tmp_path])
    registry = kind(name="a", uri="registry.example.com")
    registry.prepared("registry.example.com/good:1")
    with pytest.raises(Exception, match="bad:1 is not allowed"):
        registry.prepared("registry.example.com/bad:1")


@pytest.mark.parametrize(
    ("source", "text", "right"),
    [
        ("{m}", "", "is not a source path; write module.Class"),
        ("{m}.9", "", "is not a source path"),
        ("{m}:Scanned", "", "is not a source path"),
        ("{m}_absent.Scanned", "", "there is no module {m}_absent; looked in {path} and the inst"),
        ("{m}.Skanned", SCANNED, "has no 'Skanned'; did you mean 'Scanned'? known: Scanned"),
        ("{m}.thing", "thing = 7", "is not a class"),
        ("{m}.Thing", "class Thing: pass", "is not a subclass of transship_worker.BaseContainer"),
        ("{m}.Thing", HEAD + "class Thing(BaseContainerRegistry): pass", ("has no name; set the "
         'class variable FLAVOR = "..."')),
        ("{m}.Thing", HEAD + "class Thing(BaseContainerRegistry):\n    FLAVOR = 'a b'",
         "must be up to 63 letters"),
        ("{m}.Thing", HEAD + "class Thing(BaseContainerRegistry):\n    FLAVOR = 'aws'",
         "the name 'aws' is built-in; choose another FLAVOR"),
        ("{m}.Thing", HEAD + "class Thing(BaseContainerRegistry):\n    FLAVOR = 'taken'",
         "the name 'taken' is another custom flavor's"),
        ("{m}.Thing", "1 / 0", "importing module {m} raised ZeroDivisionError: division by zero"),
        ("{m}.Thing", "def", "importing module {m} raised SyntaxError"),
        ("{m}.Thing", "raise SystemExit(3)", "importing module {m} raised SystemExit: 3"),
        ("{m}.Thing", "import no_such_library", "imports no_such_library, which is not installed"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_flavor_is_told_in_one_line(
    tmp_path: Path, module: str, source: str, text: str, right: str
) -> None:
    write(tmp_path, module, text)
    with pytest.raises(UsageError) as caught:
        load(source.format(m=module), paths=[tmp_path], taken={"taken"})
    assert right.format(m=module, path=tmp_path) in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.exit_status == 2


def test_a_flavor_whose_import_failed_can_be_loaded_once_it_is_mended(
    tmp_path: Path, module: str
) -> None:
    write(tmp_path, module, "1 / 0")
    with pytest.raises(UsageError):
        load(f"{module}.Scanned", paths=[tmp_path])
    write(tmp_path, module, SCANNED + "\n# mended\n")
    assert load(f"{module}.Scanned", paths=[tmp_path]).FLAVOR == "scanned"


@pytest.mark.parametrize("with_pythonpath", [False, True])
def test_the_working_directory_is_never_searched(
    tmp_path: Path, module: str, with_pythonpath: bool
) -> None:
    """In a process of its own, started with ``-m`` in the folder where the module lies."""
    write(tmp_path, module, SCANNED)
    (tmp_path / "start.py").write_text(
        "from transship_worker.flavors.custom import load\n"
        "import sys\n"
        "from pathlib import Path\n"
        "try:\n"
        "    print(load(sys.argv[1], paths=[Path(p) for p in sys.argv[2:]]).FLAVOR)\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    environment = {**os.environ}
    if with_pythonpath:
        environment["PYTHONPATH"] = str(tmp_path)

    def run(*paths: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "start", f"{module}.Scanned", *paths],
            cwd=tmp_path,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    assert run().startswith(f"UsageError flavor '{module}.Scanned': there is no module {module}")
    assert run(str(tmp_path)) == "scanned\n"


def test_a_module_that_was_already_imported_from_the_working_directory_is_refused(
    tmp_path: Path, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, module, SCANNED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    __import__(module)
    with pytest.raises(UsageError, match="comes from the working directory"):
        load(f"{module}.Scanned")
    assert load(f"{module}.Scanned", paths=[tmp_path]).FLAVOR == "scanned"


def test_a_flavors_folder_hides_no_installed_package(tmp_path: Path, module: str) -> None:
    write(tmp_path, module, SCANNED)
    (tmp_path / "pydantic.py").write_text("raise RuntimeError('hidden')\n")
    load(f"{module}.Scanned", paths=[tmp_path])
    assert sys.path.index(str(tmp_path)) == len(sys.path) - 1


def test_a_catalogue_uses_its_custom_flavors_with_their_options(
    tmp_path: Path, module: str
) -> None:
    (tmp_path / "flavors").mkdir()
    write(tmp_path / "flavors", module, SCANNED)
    file = tmp_path / "catalog.yaml"
    file.write_text(
        f"flavors: [{module}.Scanned]\nflavor_paths: [flavors]\nregistries:\n"
        "  lab: {flavor: scanned, uri: lab.example.com, scanner: trivy}\n"
    )
    catalog = Catalog.open(file)
    assert catalog.registry("lab").model_dump()["scanner"] == "trivy"
    [row] = [r for r in catalog.current().flavors.rows() if r.integration == "custom"]
    assert (row.flavor, row.source, row.usable) == ("scanned", f"{module}.Scanned", True)
    file.write_text(file.read_text().replace("scanner:", "scaner:"))
    catalog.current()
    assert catalog.error is not None
    assert "unknown option 'scaner'; did you mean 'scanner'?" in catalog.error


def test_a_catalogues_wrong_flavors_are_told_with_their_lines(tmp_path: Path, module: str) -> None:
    write(tmp_path, module, SCANNED)
    file = tmp_path / "catalog.yaml"
    file.write_text(
        f"flavor_paths:\n  - .\n  - nowhere\nflavors:\n  - {module}.Scanned\n"
        f"  - {module}.Scanned\n  - 7\n"
    )
    with pytest.raises(CatalogError) as caught:
        Catalog.open(file)
    lines = caught.value.message.splitlines()
    assert [line.removeprefix(f"{file}:").partition(":")[0] for line in lines] == ["3", "6", "7"]
    assert "is not a folder" in lines[0]
    assert "is another custom flavor's" in lines[1]


def test_a_validator_of_a_custom_flavor_that_breaks_is_a_mistake_and_no_crash(
    tmp_path: Path, module: str
) -> None:
    text = HEAD + dedent(
        """
        from pydantic import model_validator

        class Broken(BaseContainerRegistry):
            FLAVOR = "broken"

            @model_validator(mode="after")
            def _check(self):
                raise KeyError("hunter22")
        """
    )
    write(tmp_path, module, text)
    file = tmp_path / "catalog.yaml"
    file.write_text(
        f"flavors: [{module}.Broken]\nflavor_paths: [.]\nregistries:\n"
        "  a:\n    flavor: broken\n    uri: a.example.com\n"
    )
    with pytest.raises(CatalogError) as caught:
        Catalog.open(file)
    assert f"{file}:5: a: flavor 'broken' raised KeyError" in caught.value.message
    assert "hunter22" not in caught.value.message
