"""The catalogue edited in place: comments stay, other lines stay, all or nothing."""

from __future__ import annotations

import stat
import threading
from pathlib import Path
from textwrap import dedent

import pytest

from transship.errors import CatalogError, UnknownComponent
from transship_config.errors import UsageError
from transship_worker.catalog.edit import add_component, add_flavor, remove_component
from transship_worker.catalog.file import Document, Place

COMMENTED = """\
# Owned by the platform team.
registries:
  # The registry of the products.
  prod:   # since 2021
    flavor:   default
    uri: "registry.example.com/ml"   # the one behind the proxy
    username: pusher
    password: { env: PROD_PASSWORD }

  # For tries; may vanish.
  staging:
    flavor: default
    uri: staging.example.com

# Flavors of our own come last.
"""

NEW = {"flavor": "default", "uri": "new.example.com"}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "catalog.yaml")


def data(place: Place) -> dict[str, dict[str, object]]:
    found = Document.parse(place.path, place.path.read_text())
    assert found.mistakes == []
    return dict(found.data or {})


def test_a_new_catalogue_is_readable_by_its_user_alone(tmp_path: Path) -> None:
    place = Place(tmp_path / "deep" / "catalog.yaml")
    add_component(place, "prod", NEW, private=False)
    assert stat.S_IMODE(place.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.path.parent.stat().st_mode) == 0o700
    assert data(place) == {"registries": {"prod": NEW}}


def test_adding_a_component_changes_no_other_line(place: Place) -> None:
    place.path.write_text(COMMENTED)
    add_component(
        place,
        "new",
        {**NEW, "username": "u", "password": {"env": "NEW_PASSWORD"}},
        private=False,
    )
    added = dedent(
        """\
          new:
            flavor: default
            uri: new.example.com
            username: u
            password: {env: NEW_PASSWORD}
        """
    )
    added = "".join(f"  {line}\n" for line in added.splitlines())
    before, after = COMMENTED.split("staging.example.com\n")
    assert place.path.read_text() == f"{before}staging.example.com\n{added}{after}"


@pytest.mark.parametrize(
    ("name", "left"),
    [
        (
            "staging",
            COMMENTED.replace(
                "  staging:\n    flavor: default\n    uri: staging.example.com\n", ""
            ),
        ),
        (
            "prod",
            COMMENTED[: COMMENTED.index("  prod:")] + COMMENTED[COMMENTED.index("\n  # For") :],
        ),
    ],
)
def test_deleting_a_component_takes_its_lines_and_no_comment(
    place: Place, name: str, left: str
) -> None:
    place.path.write_text(COMMENTED)
    remove_component(place, name)
    assert place.path.read_text() == left


def test_deleting_the_last_component_leaves_an_empty_catalogue_that_can_grow(
    place: Place,
) -> None:
    add_component(place, "prod", NEW, private=False)
    remove_component(place, "prod")
    assert not data(place).get("registries")
    add_component(place, "prod", NEW, private=False)
    assert data(place) == {"registries": {"prod": NEW}}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# only a comment\n",
        "# only a comment",
        "registries:\n",
        "registries:",
        "registries: {}  # none\n",
        "registries: {old: {flavor: default, uri: old.example.com}}  # flow\n",
        "registries:\n    old:\n        flavor: default\n        uri: old.example.com",
        "registries:\n  old: {flavor: default, uri: old.example.com}  # one line\n",
        "registries:\n  old:\n    uri: old.example.com\n    flavor: |-\n      default\n\n# end\n",
        "{registries: {old: {flavor: default, uri: old.example.com}}}\n",
        "flavor_paths: []\n",
        "registries:\r\n  old:\r\n    flavor: default\r\n    uri: old.example.com\r\n",
        (
            "---\nregistries:\n  old: &base\n    flavor: default\n    uri: old.example.com\n"
            "  other:\n    <<: *base\n    uri: other.example.com\n"
        ),
    ],
)
def test_whatever_form_the_catalogue_has_adding_and_deleting_say_what_was_meant(
    place: Place, text: str
) -> None:
    place.path.write_text(text, newline="")
    before = data(place)
    comments = [line for line in text.splitlines() if "#" in line]
    add_component(place, "new", NEW, private=False)
    assert data(place)["registries"] == {**(before.get("registries") or {}), "new": NEW}
    remove_component(place, "new")
    assert (data(place).get("registries") or {}) == (before.get("registries") or {})
    for line in comments:
        assert line[line.index("#") :] in place.path.read_text()


def test_a_name_that_is_there_is_refused_with_its_line(place: Place) -> None:
    place.path.write_text(COMMENTED)
    with pytest.raises(UsageError, match=rf"'staging' is in {place.path}:11 already"):
        add_component(place, "staging", NEW, private=False)
    assert place.path.read_text() == COMMENTED


def test_deleting_what_is_not_there_names_what_is(place: Place) -> None:
    place.path.write_text(COMMENTED)
    with pytest.raises(UnknownComponent, match="did you mean 'prod'"):
        remove_component(place, "prd")
    assert place.path.read_text() == COMMENTED


def test_deleting_from_no_catalogue_says_how_to_make_one(place: Place) -> None:
    with pytest.raises(CatalogError, match="there is no catalogue at"):
        remove_component(place, "prod")
    assert not place.path.exists()


def test_a_catalogue_with_mistakes_is_not_edited(place: Place) -> None:
    place.path.write_text("registries:\n  a: {flavor: nope}\n")
    with pytest.raises(CatalogError, match=f"{place.path}:2: a: no flavor 'nope'"):
        add_component(place, "new", NEW, private=False)
    assert place.path.read_text() == "registries:\n  a: {flavor: nope}\n"


def test_nothing_is_written_when_the_result_would_have_mistakes(place: Place) -> None:
    place.path.write_text(COMMENTED)
    with pytest.raises(CatalogError):
        add_component(place, "new", {"flavor": "default"}, private=False)
    assert place.path.read_text() == COMMENTED
    assert [path.name for path in place.path.parent.iterdir()] == ["catalog.yaml"]


def test_the_mode_of_a_catalogue_stays_unless_it_receives_a_password(place: Place) -> None:
    place.path.write_text(COMMENTED)
    place.path.chmod(0o644)
    add_component(place, "new", NEW, private=False)
    assert stat.S_IMODE(place.path.stat().st_mode) == 0o644
    add_component(place, "secret", NEW, private=True)
    assert stat.S_IMODE(place.path.stat().st_mode) == 0o600


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    real = tmp_path / "real" / "catalog.yaml"
    real.parent.mkdir()
    real.write_text(COMMENTED)
    link = tmp_path / "catalog.yaml"
    link.symlink_to(real)
    remove_component(Place(link), "staging")
    assert link.is_symlink()
    assert "staging:" not in real.read_text()


def test_edits_at_once_all_count(place: Place) -> None:
    def add(number: int) -> None:
        add_component(place, f"c{number}", NEW, private=False)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(data(place)["registries"]) == [f"c{number}" for number in range(8)]


@pytest.mark.parametrize(
    "before",
    ["", "flavors: []\n", "flavors: [edit_one.First]  # ours\n", "flavors:\n- edit_one.First\n",
     "flavors:\n  # ours\n  - edit_one.First\n\nregistries: {}\n"],
)  # fmt: skip
def test_a_flavor_and_its_folder_are_added_once(place: Place, tmp_path: Path, before: str) -> None:
    folder = tmp_path / "our flavors"
    folder.mkdir()
    head = "from transship_worker import BaseContainerRegistry as Base\n"
    (folder / "edit_one.py").write_text(f"{head}class First(Base):\n    FLAVOR = 'first'\n")
    (folder / "edit_two.py").write_text(f"{head}class Second(Base):\n    FLAVOR = 'second'\n")
    had = ["edit_one.First"] if "First" in before else []
    paths = f'flavor_paths: ["{folder}"]\n' if had else ""
    place.path.write_text(paths + before)
    assert add_flavor(place, "edit_two.Second", str(folder)) is True
    wanted: dict[str, object] = {
        "flavors": [*had, "edit_two.Second"],
        "flavor_paths": [str(folder)],
    }
    assert {key: value for key, value in data(place).items() if value} == wanted
    assert "# ours" in place.path.read_text() or "# ours" not in before
    text = place.path.read_text()
    assert add_flavor(place, "edit_two.Second", str(folder)) is False
    assert place.path.read_text() == text
