"""Which tags are taken: expressions, version order, ranges, and the order of the filters."""

from __future__ import annotations

import random
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transship.model.migration.automaton import LARGEST
from transship.model.migration.expression import LONGEST, Expression
from transship.model.migration.selection import TagSelection, is_referrer_tag
from transship.model.migration.versions import VersionRange, order, precedence

_numbers = st.integers(0, 12).map(str)
_identifiers = st.sampled_from(["alpha", "beta", "rc", "0", "1", "2", "11", "rc-1", "01"])
_versions = st.builds(
    lambda v, numbers, pre, build: (
        v + ".".join(numbers) + ("-" + ".".join(pre) if pre else "") + build
    ),
    st.sampled_from(["", "v"]),
    st.lists(_numbers, min_size=1, max_size=3),
    st.lists(_identifiers, max_size=3),
    st.sampled_from(["", "_b1", "_b2"]),
)
_tags = _versions | st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9_.-]{0,12}\Z")

# Expressions put together from what may be used, and from what may not.
_atoms = st.sampled_from(
    [
        *(
            "a",
            "b",
            "1",
            ".",
            r"\d",
            r"\w",
            r"\.",
            "[ab]",
            "[^a]",
            "[a-c1]",
            "[]a]",
            "[a-]",
            "^",
            "$",
        ),
        *("(a|b)", "(?:a|)", "(?P<x>a1)", "-", "{", "}", r"\b", "(?=a)", "(?i)", r"\1", r"[\d-]"),
    ]
)
_repeats = st.sampled_from(["", "", "*", "+", "?", "{2}", "{1,2}", "{,2}", "{1,}", "{,}", "*?"])
_pieces = st.builds(lambda atom, repeat: atom + repeat, _atoms, _repeats)
_expressions = st.recursive(
    st.lists(_pieces, min_size=1, max_size=3).map("".join),
    lambda inner: (
        st.builds(lambda a, r, b: f"({a}){r}{b}", inner, _repeats, inner)
        | st.builds(lambda a, b: f"{a}|{b}", inner, inner)
    ),
    max_leaves=3,
)


@given(_expressions, st.lists(st.text("abc1.-{}", max_size=6), max_size=5))
def test_an_expression_that_is_accepted_means_what_it_means_to_python(
    text: str, tags: list[str]
) -> None:
    try:
        expression = Expression.parse(text)
    except ValueError as error:
        assert str(error).isprintable()
        return
    standard = re.compile(text, re.ASCII)

    assert [expression.found_in(t) for t in tags] == [bool(standard.search(t)) for t in tags]


@given(st.text(max_size=20))
def test_any_text_is_an_expression_or_one_clear_line(text: str) -> None:
    try:
        assert Expression.parse(text) == Expression.parse(text)
    except ValueError as error:
        assert str(error).isprintable()


@pytest.mark.parametrize(
    "text", ["^(a+)+$", "^(a|a)*$", "(a|aa)+$", "^(a*)*$", "^a*a*a*a*a*a*a*a*$", "(.*a){20}$"]
)
def test_expressions_that_never_end_elsewhere_end_here(text: str) -> None:
    expression = Expression.parse(text)

    assert not expression.found_in("a" * 127 + "-")
    assert expression.found_in("a" * 127)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "leave it out"),
        ("(a", "is not a regular expression"),
        ("a**", "is not a regular expression"),
        ("(?=a)", "cannot be used here"),
        ("(?i)rc", "cannot be used here"),
        (r"(a)\1", "cannot be used here"),
        (r"\bv", "cannot be used here"),
        ("a++", "possessive|not a regular"),
        ("[[a]", "within a set"),
        ("é", "tags are ASCII"),
        ("a" * (LONGEST + 1), "at most 256"),
        ("((a{100}){100}){100}", f"more than {LARGEST} steps"),
        ("a{99999999999999999999}", "steps|not a regular"),
        ("(" * 40 + "a" + ")" * 40, "deep"),
    ],
)
def test_an_expression_that_cannot_be_used_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Expression.parse(text)


@given(_tags, _tags, _tags)
def test_the_order_of_tags_is_total(a: str, b: str, c: str) -> None:
    assert (order(a) < order(b)) + (order(b) < order(a)) == (a != b)
    if order(a) <= order(b) <= order(c):
        assert order(a) <= order(c)


@given(st.lists(_tags, unique=True, max_size=12), st.randoms(use_true_random=False))
def test_the_choice_does_not_depend_on_the_order_of_the_tags(
    tags: list[str], chance: random.Random
) -> None:
    selection = TagSelection(latest=3)
    chosen = selection.choose(tags)
    chance.shuffle(tags)

    assert selection.choose(tags * 2) == chosen
    assert len(chosen) == min(3, len(tags))
    assert all(order(left) < order(min(chosen, key=order)) for left in set(tags) - set(chosen))


def test_versions_stand_in_the_order_of_the_specification() -> None:
    # The example of semver.org, item 11, and what tags add to it.
    ordered = [
        *("edge", "latest", "nightly-9", "nightly-10"),
        *("0.9", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2"),
        *("1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.2", "v1.10.0", "2.0.0", "24.04", "24.10"),
    ]

    assert sorted(ordered, key=order) == ordered
    assert all(order(low) < order(high) for low, high in pairwise(ordered))


def test_a_v_missing_numbers_and_build_metadata_do_not_count() -> None:
    assert precedence("v1.2") == precedence("1.2.0") == precedence("1.2.0_build.7")
    assert precedence("1.2.3.4") is None
    assert precedence("1" * 200) is None
    assert precedence("latest") is None


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        (">=1.2,<3", "1.2 v1.2.0 2.9.9 1.10", "1.1.9 3 3.0.0 2.0.0-rc.1 latest 1.2.3.4"),
        (">=1.2 <3", "1.2 2.9.9", "1.1 3"),
        (">= 1.2 , < 3", "1.2 2.9.9", "1.1 3"),
        ("^1.2", "1.2.0 1.99", "1.1.9 2.0.0 1.3.0-rc.1"),
        ("^0.2.3", "0.2.3 0.2.9", "0.3.0 0.2.2 1.0"),
        ("^0.0.3", "0.0.3", "0.0.4 0.0.2"),
        ("^0", "0.0.1 0.9", "1.0"),
        ("~1.2", "1.2.0 1.2.9", "1.3 1.1"),
        ("~1.2.3", "1.2.3 1.2.9", "1.2.2 1.3"),
        ("~1", "1.0 1.9", "2.0 0.9"),
        ("1.x", "1.0 1.9.9", "2.0 0.9"),
        ("1.2.*", "1.2 1.2.9", "1.3"),
        ("1.2", "1.2 1.2.9 v1.2.3", "1.3"),
        ("v1.2.3", "1.2.3 v1.2.3 1.2.3_x", "1.2.4 1.2.3-rc"),
        ("*", "0.0.0 99", "latest 1.0-rc"),
        (">1.2", "1.3.0 2", "1.2 1.2.9"),
        (">1.2.3", "1.2.4", "1.2.3"),
        ("<=1.2", "1.2.9 0.1", "1.3"),
        ("<=1.2.3", "1.2.3", "1.2.4"),
        (">=1,!=1.5", "1.4.9 1.6", "1.5 1.5.7 0.9"),
        (">=1,!=1.5.2", "1.5.1 1.5.3 1.5", "1.5.2 v1.5.2"),
        ("<1 || >=2,<3", "0.9 2.5", "1.0 1.9 3.0"),
        (">=1.2.0-rc.1", "1.2.0-rc.1 1.2.0-rc.2 1.2.0 1.3.0-alpha", "1.2.0-beta 1.1"),
        (">=1.2-0,<3", "1.2.0-alpha 2.9.9-rc", "3.0.0-rc.1 3.0.0"),
        (">=1.2-0,<3.0.0", "3.0.0-rc.1", "3.0.0"),
        ("^1.2.3-beta.2", "1.2.3-beta.4 1.9", "1.2.3-beta.1 2.0.0-rc.1"),
    ],
)
def test_ranges_hold_what_they_should(text: str, inside: str, outside: str) -> None:
    found = VersionRange.parse(text)

    assert [tag for tag in inside.split() if not found.holds(tag)] == []
    assert [tag for tag in outside.split() if found.holds(tag)] == []


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "1..2", "latest", ">=", ">=1,", ",1", "1.x.3", "1.2.3.4", "1 ||", "|| 1", "=>1"),
        *(">=3,<1", ">1.2,<1.3", ">1.2.3,<1.2.3", "^1-rc", "1,2", "1" * 300, "1.2 - 2.3", "<é"),
    ],
)
def test_a_range_that_cannot_be_meant_is_refused_with_examples(text: str) -> None:
    with pytest.raises(
        ValueError, match=r"comma|version range|no version|three numbers|after|at most"
    ):
        VersionRange.parse(text)


@given(st.text("0123.x*<>=!^~|, v-a", max_size=20))
def test_any_text_is_a_range_or_one_clear_line(text: str) -> None:
    try:
        found = VersionRange.parse(text)
    except ValueError as error:
        assert str(error).isprintable()
    else:
        assert VersionRange.parse(str(found)) == found


def whole(version: str) -> str:
    """The three numbers of a version."""
    numbers = re.findall(r"\d+", re.split("[-_]", version)[0])
    return ".".join([*numbers, "0", "0"][:3])


@given(_versions, _versions, _versions)
def test_ranges_agree_with_the_order(low: str, high: str, tag: str) -> None:
    low, high = whole(low), whole(high)
    found, bottom, top = precedence(tag), precedence(low), precedence(high)
    assert found is not None
    assert bottom is not None
    assert top is not None
    if bottom >= top:
        with pytest.raises(ValueError, match="no version"):
            VersionRange.parse(f">={low},<{high}")
        return
    release = found[1] == (1,)

    assert VersionRange.parse(f">={low},<{high}").holds(tag) == (bottom <= found < top and release)
    assert VersionRange.parse(f">={low}-0,<{high}").holds(tag) == ((bottom[0], (0,)) <= found < top)


def test_latest_counts_after_all_other_filters() -> None:
    selection = TagSelection.model_validate(
        {"include": ["^v", "^1"], "exclude": ["-rc", "windows"], "semver": "<3", "latest": 2}
    )
    tags = ["v1.0", "v1.9", "v1.10", "v2.0-rc1", "v3.0", "v2.0_windows", "2.5", "1.5", "vision"]

    assert selection.choose(tags) == ["v1.10", "v1.9"]
    assert selection.takes("1.5")
    assert not selection.takes("vision")


def test_without_a_range_other_tags_count_below_versions() -> None:
    assert TagSelection(latest=2).choose(["latest", "1.0", "edge"]) == ["1.0", "latest"]


def test_tags_that_stand_for_referrers_are_no_images() -> None:
    digest = "sha256-" + "0a" * 32

    assert TagSelection().choose([digest, f"{digest}.sig", f"{digest}.att", "1.0"]) == ["1.0"]
    assert not is_referrer_tag("sha256-short")
    assert not is_referrer_tag(f"{digest}.other")
