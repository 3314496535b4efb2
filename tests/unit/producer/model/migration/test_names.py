"""Which repositories a pattern means, and what they are called at the target."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transship.model.migration.names import (
    LONGEST,
    RepositoryPattern,
    Template,
    is_repository,
    is_tag,
)
from transship.model.references import ImageReference

_alnum = st.text("ab1", min_size=1, max_size=3)
_segments = st.builds(
    lambda a, j, b: a + j + b, _alnum, st.sampled_from([".", "_", "__", "-", "---"]), _alnum
) | _alnum  # fmt: skip
_repositories = st.lists(_segments, min_size=1, max_size=4).map("/".join)
_tags = st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}\Z")
_patterns = st.text("ab1/.-_*", min_size=1, max_size=10)


def as_regex(pattern: str) -> re.Pattern[str]:
    """The same pattern for Python's own engine, as the documentation describes it."""
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}
    split = re.split(r"((?:(?<=/)|^)\*\*/|\*\*|\*)", pattern)
    return re.compile("".join(parts.get(part, re.escape(part)) for part in split))


@given(_repositories)
def test_a_name_means_itself_and_needs_no_catalogue(repository: str) -> None:
    pattern = RepositoryPattern.parse(repository)

    assert not pattern.needs_catalogue
    assert pattern.matches(repository)
    assert not pattern.matches(f"{repository}x")


@given(_patterns, _repositories)
def test_patterns_mean_what_their_description_says(text: str, repository: str) -> None:
    try:
        pattern = RepositoryPattern.parse(text)
    except ValueError:
        assert as_regex(text).fullmatch(repository) is None or "***" in text
    else:
        assert pattern.matches(repository) == (as_regex(text).fullmatch(repository) is not None)
        assert RepositoryPattern.parse(str(pattern)) == pattern


@given(_patterns)
def test_a_pattern_that_is_accepted_fits_some_repository(text: str) -> None:
    try:
        pattern = RepositoryPattern.parse(text)
    except ValueError as error:
        assert str(error).isprintable()
    else:
        witness = text.replace("**", "a").replace("*", "a")
        assert is_repository(witness)
        assert pattern.matches(witness)


@pytest.mark.parametrize(
    ("pattern", "fits", "misses"),
    [
        ("acme/*", ["acme/cat"], ["acme", "acme/a/b", "xacme/cat", "acme2/cat"]),
        ("acme/**", ["acme/cat", "acme/a/b"], ["acme", "acmes/cat"]),
        ("**", ["a", "a/b/c"], []),
        ("*", ["a"], ["a/b"]),
        ("**/cat", ["cat", "a/cat", "a/b/cat"], ["bobcat", "a/bobcat", "cat/a"]),
        ("a/**/z", ["a/z", "a/b/z", "a/b/c/z"], ["az", "a/bz"]),
        ("a**z", ["az", "a/z", "ab/cz"], ["a/zz1"]),
        ("team-*/app.*", ["team-1/app.x"], ["team/app.x", "team-1/appx", "team-1/b/app.x"]),
    ],
)
def test_one_star_stays_in_its_segment_and_two_cross(
    pattern: str, fits: list[str], misses: list[str]
) -> None:
    parsed = RepositoryPattern.parse(pattern)

    assert parsed.needs_catalogue
    assert [name for name in fits + misses if parsed.matches(name)] == fits


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("", "is no repository"),
        ("Acme/*", "write 'acme/\\*'"),
        ("a//*", "fits no repository"),
        ("/*", "fits no repository"),
        ("*/", "fits no repository"),
        ("a.-*", "fits no repository"),
        ("a/***", "across them"),
        ("a/[bc]", r"\[ \] cannot be used"),
        ("a/b?", r"\? cannot be used"),
        (r"a/\*", "cannot be used"),
        ("a/b:latest", "is no repository"),
        ("a" * (LONGEST + 1), "has 252 characters"),
    ],
)
def test_a_pattern_that_fits_nothing_is_refused(pattern: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        RepositoryPattern.parse(pattern)


def test_many_stars_cost_no_more_than_few() -> None:
    # Python's own engine would try about 10^40 ways here.
    pattern = RepositoryPattern.parse("*a" * 60 + "b")

    assert not pattern.matches("a" * 240 + "c")
    assert pattern.matches("a" * 240 + "b")


@given(_repositories, _tags)
def test_templates_give_valid_names_or_say_why_not(repository: str, tag: str) -> None:
    name = repository.rpartition("/")[2]

    assert Template.parse("{repository}", "repository").fill(repository, tag) == repository
    assert Template.parse("m/{name}-x", "repository").fill(repository, tag) == f"m/{name}-x"
    assert Template.parse("fixed", "repository").fill(repository, tag) == "fixed"
    assert Template.parse("{tag}", "tag").fill(repository, tag) == tag
    assert Template.parse("{name}_{tag}", "tag").fill(repository, tag) == f"{name}_{tag}"


@given(
    st.text(string.ascii_lowercase + "{}/._-", max_size=20)
    | st.lists(st.sampled_from(["{name}", "{repository}", "/", "a", "-", "_"])).map("".join),
    _repositories,
)
def test_whatever_template_is_accepted_gives_repositories(text: str, repository: str) -> None:
    try:
        template = Template.parse(text, "repository")
    except ValueError as error:
        assert str(error).isprintable()
        return
    result = template.fill(repository, "1")

    assert ImageReference.parse(f"a.b/{result}").repository == result


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("m/{tag}", "{tag} is no placeholder here"),
        ("m/{nam}", "did you mean '{name}'"),
        ("m/{repository", "single brace"),
        ("m/{{repository}}", "single brace"),
        ("{repository}/", "is no repository"),
        ("https://x/{name}", "is no repository"),
        ("a" * 300, "at most"),
    ],
)
def test_a_template_that_can_give_no_repository_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        Template.parse(text, "repository")


@given(st.text(max_size=8) | _repositories)
def test_a_repository_is_what_a_reference_can_hold(text: str) -> None:
    assert is_repository(text) == bool(
        re.fullmatch(
            r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*", text
        )
    )


@given(st.text(max_size=8) | _tags)
def test_a_tag_is_what_a_reference_can_hold(text: str) -> None:
    assert is_tag(text) == bool(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", text, re.ASCII))
