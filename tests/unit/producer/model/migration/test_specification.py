"""What a person asks for: a specification is right, or all its mistakes are told."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transship.model.migration.mistakes import MOST_MISTAKES, Mistake, SpecError, place, shown
from transship.model.migration.selection import TagSelection
from transship.model.migration.specification import MOST_RULES, OnConflict, Spec
from transship_config.errors import UsageError

FULL: dict[str, Any] = {
    "version": 1,
    "name": "hub-to-ecr",
    "rules": [
        {
            "from": {"registry": "hub", "repositories": ["acme/*", "tools/cat"]},
            "to": {"registry": "ecr-prod", "repository": "mirror/{repository}", "tag": "{tag}"},
            "tags": {"include": ["^v[0-9]"], "exclude": ["-rc"], "semver": ">=1.2,<3", "latest": 2},
            "platforms": ["linux/amd64", "linux/aarch64"],
            "referrers": True,
            "immutable_tags": ["^v[0-9]"],
            "on_conflict": "skip",
        }
    ],
}
LEAST: dict[str, Any] = {
    "version": 1,
    "name": "least",
    "rules": [{"from": {"registry": "hub", "repositories": ["cat"]}, "to": {"registry": "ecr"}}],
}

_leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**4400, 10**4401)
    | st.floats()
    | st.text(max_size=20)
    | st.text(st.characters(codec=None), max_size=3)
    | st.binary(max_size=3)
    | st.sampled_from(["{tag}", "**", "acme/*", ">=1", "linux/amd64", "hub", "(a+)+$"])
)
_keys = st.sampled_from(
    [
        *("version", "name", "rules", "from", "to", "tags", "registry", "repositories", "tag"),
        *("repository", "include", "semver", "latest", "platforms", "on_conflict", "referrers"),
    ]
)
_anything = st.recursive(
    _leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(_keys | st.text(max_size=3) | st.integers(), inner, max_size=4)
    ),
    max_leaves=20,
)


def mistakes(data: object) -> dict[str, str]:
    """Each mistake's place, with what is said there."""
    with pytest.raises(SpecError) as caught:
        Spec.parse(data)
    return {mistake.place: mistake.text for mistake in caught.value.mistakes}


def changed(*keys: str | int, to: object) -> dict[str, Any]:
    """The full specification with one value changed."""
    data: Any = copy.deepcopy(FULL)
    inner = data
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = to
    assert isinstance(data, dict)
    return data


def test_everything_that_is_written_is_read() -> None:
    (rule,) = Spec.parse(FULL).rules

    assert rule.source.registry == "hub"
    assert rule.source.needs_catalogue
    assert rule.source.explicit == ["tools/cat"]
    assert rule.wants("acme/cat")
    assert not rule.wants("acme/cat/small")
    assert [str(platform) for platform in rule.platforms] == ["linux/amd64", "linux/arm64"]
    assert rule.tags.choose(["v1.2", "v1.3", "v1.4", "v1.5-rc1", "1.6", "v3"]) == ["v1.4", "v1.3"]
    assert rule.referrers
    assert rule.is_immutable("v1")
    assert not rule.is_immutable("latest")
    assert rule.on_conflict is OnConflict.SKIP


def test_what_is_left_out_has_its_default() -> None:
    (rule,) = Spec.parse(LEAST).rules

    assert not rule.source.needs_catalogue
    assert rule.tags == TagSelection()
    assert rule.tags.choose(["b", "a"]) == ["b", "a"]
    assert (rule.platforms, rule.referrers, rule.immutable_tags) == ((), False, ())
    assert rule.on_conflict is OnConflict.OVERWRITE


@pytest.mark.parametrize("data", [FULL, LEAST], ids=["full", "least"])
def test_a_specification_is_written_and_read_again(data: dict[str, Any]) -> None:
    spec = Spec.parse(data)

    assert Spec.from_json(spec.to_json()) == spec
    assert "\n" not in spec.to_json()


def test_names_at_the_target_come_from_the_templates() -> None:
    spec = Spec.parse(changed("rules", 0, "to", "tag", to="{name}-{tag}"))

    assert spec.target_repository(0, "acme/cat") == "mirror/acme/cat"
    assert spec.target_tag(0, "acme/cat", "v1") == "cat-v1"


def test_a_name_that_cannot_be_made_names_the_rule_and_the_input() -> None:
    spec = Spec.parse(changed("rules", 0, "to", "tag", to="{name}-{tag}"))

    with pytest.raises(SpecError, match=r"^rules\[0\]\.to\.tag: makes of 'acme/cat:xxx") as caught:
        spec.target_tag(0, "acme/cat", "x" * 128)
    assert "is no tag" in str(caught.value)
    with pytest.raises(SpecError, match=r"^rules\[0\]\.to\.repository: makes of 'a{60}'…: "):
        spec.target_repository(0, "/".join(["a" * 120, "a" * 126]).replace("/", "a"))


@pytest.mark.parametrize(
    ("keys", "value", "says"),
    [
        (("version",), 2, "2 cannot be used; write 1"),
        (("version",), True, "true cannot be used; write 1"),
        (("version",), 1.0, "1.0 cannot be used; write 1"),
        (("version",), "1", "'1' cannot be used; write 1"),
        (("name",), "a b", "is no name"),
        (("name",), "a\n", "is no name"),
        (("name",), 7, "7 is not a text; write it in quotes"),
        (("rules",), [], "at least 1"),
        (("rules",), "x", "is not a list"),
        (("rules", 0), None, "nothing is not a mapping with the keys from, to"),
        (("rules", 0, "form"), {}, "did you mean 'from'?"),
        (("rules", 0, "from", "registry"), "a/b", "is no component"),
        (("rules", 0, "from", "registry"), "quay.io:0", "is no component"),
        (("rules", 0, "from", "repositories"), "acme/*", "write ['acme/*']"),
        (("rules", 0, "from", "repositories"), [], "at least 1"),
        (("rules", 0, "from", "repositories", 1), "Acme/*", "write 'acme/*'"),
        (("rules", 0, "to", "registry"), "quay.io:443", "is no name"),
        (("rules", 0, "to", "repository"), "m/{repo}", "did you mean '{repository}'?"),
        (("rules", 0, "to", "repository"), "M/{repository}", "write 'm/a'"),
        (("rules", 0, "to", "tag"), "{repository}", "{repository} is no placeholder here"),
        (("rules", 0, "to", "tag"), {"tag": None}, "a mapping is not a text; write it in quotes"),
        (("rules", 0, "to", "tag"), "-{tag}", "is no tag"),
        (("rules", 0, "tags"), None, "is not a mapping with the keys include, exclude"),
        (("rules", 0, "tags", "latest"), 0, "0 cannot be used; write how many"),
        (("rules", 0, "tags", "latest"), True, "true cannot be used"),
        (("rules", 0, "tags", "latest"), 10**500, "a very large number cannot be used"),
        (("rules", 0, "tags", "semver"), 1.2, "1.2 is not a text; write it in quotes"),
        (("rules", 0, "tags", "semver"), ">=3,<1", "no version can be in this range"),
        (("rules", 0, "tags", "include", 0), "(a", "is not a regular expression"),
        (("rules", 0, "platforms", 0), "linux/amd46", "did you mean 'amd64'?"),
        (("rules", 0, "referrers"), "yes", "write true or false"),
        (("rules", 0, "immutable_tags"), "v", "write ['v']"),
        (("rules", 0, "on_conflict"), "replace", "write one of skip, overwrite, fail"),
    ],
)
def test_a_mistake_is_told_at_its_place_with_what_would_be_right(
    keys: tuple[str | int, ...], value: object, says: str
) -> None:
    found = mistakes(changed(*keys, to=value))

    assert list(found) == [place(keys)]
    assert says in found[place(keys)]


def test_all_mistakes_are_told_at_once() -> None:
    data = changed("rules", 0, "to", to={"repository": "A", "tga": "x"})
    data["nmae"] = data.pop("name")
    data["rules"].append(7)

    found = mistakes(data)

    assert set(found) == {
        "name",
        "nmae",
        "rules[0].to.registry",
        "rules[0].to.repository",
        "rules[0].to.tga",
        "rules[1]",
    }
    assert "did you mean 'name'?" in found["nmae"]
    assert "did you mean 'tag'?" in found["rules[0].to.tga"]
    assert "is missing" in found["rules[0].to.registry"]


def test_copying_a_registry_onto_itself_is_refused() -> None:
    data = copy.deepcopy(LEAST)
    data["rules"][0]["to"]["registry"] = "hub"

    assert "onto itself" in mistakes(data)["rules[0]"]


def test_a_host_without_a_component_can_be_a_source_and_never_a_target() -> None:
    data = copy.deepcopy(LEAST)
    data["rules"][0]["from"]["registry"] = "localhost:5000"

    assert Spec.parse(data).rules[0].source.registry == "localhost:5000"


def test_too_many_rules_are_refused() -> None:
    found = mistakes({**LEAST, "rules": LEAST["rules"] * (MOST_RULES + 1)})

    assert f"at most {MOST_RULES}" in found["rules"]


@given(_anything)
def test_whatever_is_parsed_only_a_spec_error_comes_of_it(data: object) -> None:
    with pytest.raises(SpecError) as caught:
        Spec.parse(data)

    assert all(line.isprintable() for line in str(caught.value).split("\n"))
    assert caught.value.exit_status == 2


@given(_anything, st.sampled_from([("rules",), ("rules", 0), ("rules", 0, "tags"), ("name",)]))
def test_whatever_stands_in_one_place_the_rest_is_a_specification_or_a_spec_error(
    value: object, keys: tuple[str | int, ...]
) -> None:
    try:
        spec = Spec.parse(changed(*keys, to=value))
    except SpecError as error:
        assert error.mistakes
        assert all(mistake.keys[: len(keys)] == keys for mistake in error.mistakes)
    else:
        assert Spec.from_json(spec.to_json()) == spec


@given(
    st.text(max_size=60) | st.binary(max_size=60) | st.sampled_from(["[" * 9000, '{"a":' * 9000])
)
def test_whatever_text_is_read_only_a_spec_error_comes_of_it(text: str | bytes) -> None:
    with pytest.raises(SpecError):
        Spec.from_json(text)


def test_an_error_is_bad_input_and_keeps_its_mistakes_when_it_travels() -> None:
    error = SpecError([Mistake(("rules", 0, "to"), "is missing")], what="line 3")
    again = pickle.loads(pickle.dumps(error))

    assert isinstance(again, SpecError)
    assert isinstance(again, UsageError)
    assert (str(again), again.mistakes) == ("line 3: rules[0].to: is missing", error.mistakes)


def test_a_flood_of_mistakes_is_cut() -> None:
    error = SpecError([Mistake((n,), "is wrong") for n in range(MOST_MISTAKES + 5)])

    assert str(error).count("\n") == MOST_MISTAKES
    assert str(error).endswith("and 5 more")


@given(_anything)
def test_a_strangers_value_is_shown_short_and_on_one_line(value: object) -> None:
    assert shown(value).isprintable()
    assert len(shown(value)) < 100
