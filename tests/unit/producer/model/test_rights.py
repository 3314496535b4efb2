"""What accounts may do: patterns, their matching against a slow definition, and refusals."""

from __future__ import annotations

import random
import re
import time

import pytest

from transship.errors import InvalidPattern
from transship.model.references import ImageReference, RegistryUri
from transship.model.rights import (
    LONGEST_PATTERN,
    Access,
    Grants,
    Limits,
    Pattern,
    Rights,
    Verb,
    all_rights,
    refusal,
    repository_in,
)

ML = Grants.of({"push": ["prod/ml/**"], "copy_from": ["hub", "prod/ml/**"]})


@pytest.mark.parametrize(
    ("pattern", "fitting", "other"),
    [
        ("prod", ["", "a", "a/b"], []),
        ("prod/**", ["", "a", "a/b"], []),
        ("prod/ml", ["ml"], ["", "m", "mlx", "ml/a", "a/ml"]),
        ("prod/ml/**", ["ml", "ml/a", "ml/a/b"], ["", "mlx", "mlx/a", "a/ml/b"]),
        ("prod/ml/*", ["ml/a"], ["ml", "ml/a/b"]),
        ("prod/*/train", ["a/train", "ml/train"], ["train", "a/b/train", "a/trainx"]),
        ("prod/**/train", ["train", "a/train", "a/b/train"], ["train/a", "xtrain"]),
        ("prod/**/a/**/b", ["a/b", "x/a/y/z/b", "a/a/b/b"], ["b/a", "a", "a/b/c"]),
        ("prod/ml-*", ["ml-", "ml-a"], ["ml", "ml/a", "ml-a/b"]),
        ("prod/*a*b*", ["ab", "xaybz", "aab"], ["ba", "a", "a/b"]),
    ],
)
def test_a_pattern_fits_repositories_of_its_entry(
    pattern: str, fitting: list[str], other: list[str]
) -> None:
    found = Pattern.parse(pattern)
    assert str(found) == pattern
    assert [name for name in fitting + other if found.matches("prod", name)] == fitting
    assert not any(found.matches("prodx", name) for name in fitting)


def test_a_host_without_an_entry_is_named_as_references_spell_it() -> None:
    found = Pattern.parse("registry.example.com:5000/ml/**")
    assert found.matches("registry.example.com:5000", "ml/a")
    assert not found.matches("registry.example.com", "ml/a")
    assert Pattern.parse("docker.io/library/**").matches("docker.io", "library/alpine")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not a pattern"),
        (None, "is not a pattern"),
        (7, "is not a pattern"),
        ("a" * (LONGEST_PATTERN + 1), "is not a pattern"),
        ("/ml", "does not start with the name of a registry entry"),
        ("*/ml", "does not start with the name of a registry entry"),
        ("index.docker.io:443/a", "does not start with the name of a registry entry"),
        ("prod/", "has an empty path segment"),
        ("prod//ml", "has an empty path segment"),
        ("prod/ml/", "has an empty path segment"),
        ("prod/ml**", "`**` is a path segment of its own"),
        ("prod/***", "`**` is a path segment of its own"),
        ("prod/ML", "has a bad path segment 'ML'"),
        ("prod/a b", "has a bad path segment"),
        ("prod/ml:1", "has a bad path segment"),
        ("prod/[a-z]", "has a bad path segment"),
        ("prod/mé", "has a bad path segment"),
        ("prod/ml\n", "has a bad path segment"),
        ("prod\n", "does not start with the name of a registry entry"),
    ],
)
def test_what_is_no_pattern_is_refused_in_one_line(text: object, problem: str) -> None:
    with pytest.raises(InvalidPattern) as error:
        Pattern.parse(text)
    assert problem in error.value.message
    assert error.value.message.isprintable()
    assert len(error.value.message) < 300


def _slow(pattern: str) -> re.Pattern[str]:
    """The definition as an expression that may backtrack, over a path that ends each segment."""
    parts = ["(?:[^/]+/)*" if one == "**" else _segment(one) + "/" for one in pattern.split("/")]
    return re.compile("".join(parts))


def _segment(text: str) -> str:
    return "".join("[^/]*" if one == "*" else re.escape(one) for one in text)


def test_matching_agrees_with_the_definition() -> None:
    chance = random.Random(7)
    agreed = {True: 0, False: 0}
    for _ in range(20_000):
        segments = [
            chance.choice(("**", "*", "a", "b", "a*", "*b", "a*b"))
            for _ in range(chance.randint(1, 4))
        ]
        path = [
            "".join(chance.choices("ab", k=chance.randint(1, 3)))
            for _ in range(chance.randint(0, 4))
        ]
        pattern = "/".join(segments)
        expected = _slow(pattern).fullmatch("".join(f"{one}/" for one in path)) is not None
        assert Pattern.parse(f"prod/{pattern}").matches("prod", "/".join(path)) is expected
        agreed[expected] += 1
    assert min(agreed.values()) > 1_000


@pytest.mark.parametrize(
    ("pattern", "repository"),
    [
        ("p/" + "*a" * 126 + "b", "a" * 255),
        ("p/" + "**/a/" * 80 + "b", "/".join("a" * 128)),
        ("p/" + "**/*a*/" * 60 + "b", "/".join(["aaa"] * 64)),
    ],
)
def test_no_pattern_takes_long(pattern: str, repository: str) -> None:
    found = Pattern.parse(pattern)
    began = time.process_time()
    assert not found.matches("p", repository)
    assert time.process_time() - began < 0.5


def test_nothing_is_granted_that_is_not_listed() -> None:
    rights = Rights("team-a", ML)
    assert rights.may(Verb.PUSH, "prod", "ml/a")
    assert rights.may(Verb.COPY_FROM, "hub", "library/alpine")
    assert not rights.may(Verb.PUSH, "hub", "library/alpine")
    assert not rights.may(Verb.COPY_TO, "prod", "ml/a")
    assert not any(Rights.none("x").may(verb, "prod", "ml/a") for verb in Verb)
    assert not Rights.none("x").everything


def test_without_a_section_everything_is_allowed() -> None:
    rights = all_rights("default")
    assert rights.everything
    assert all(rights.may(verb, "any", "thing/at/all") for verb in Verb)
    assert all(rights.may_use(verb, "any") for verb in Verb)


def test_a_scope_only_takes_away() -> None:
    scope = Grants.of({"push": ["prod/ml/x", "prod/web"], "copy_to": ["prod"]})
    rights = Rights("team-a", ML).intersect(scope)
    assert rights.may(Verb.PUSH, "prod", "ml/x")
    assert not rights.may(Verb.PUSH, "prod", "ml/y")
    assert not rights.may(Verb.PUSH, "prod", "web")
    assert not rights.may(Verb.COPY_TO, "prod", "ml/x")
    assert not rights.may(Verb.COPY_FROM, "hub", "library/alpine")
    assert not rights.may_use(Verb.COPY_FROM, "hub")
    assert not all_rights("a").intersect(scope).may(Verb.PUSH, "prod", "ml/y")
    assert not all_rights("a").intersect(scope).everything
    assert Rights("team-a", ML).intersect(None) == Rights("team-a", ML)


def test_acting_for_another_gives_the_rights_of_the_other_alone() -> None:
    gateway = Rights(
        "ci", Grants.of({"push": ["own"]}), acts_for=frozenset({"team-a"}), labels={"via": "ci"}
    )
    team = Rights("team-a", ML, labels={"team": "a", "via": "a"}, acts_for=frozenset({"team-b"}))
    found = gateway.on_behalf_of("team-a", team, None)
    assert found is not None
    assert found.may(Verb.PUSH, "prod", "ml/a")
    assert not found.may(Verb.PUSH, "own", "a")
    assert found.labels == {"via": "a", "team": "a"}
    assert not found.acts_for
    assert gateway.on_behalf_of("team-b", team, None) is None
    assert team.on_behalf_of("team-a", team, None) is None
    assert gateway.refusal_to_act_for("team-b") == (
        "account ci may not submit on behalf of team-b; it may for team-a"
    )


def refused(rights: Rights, verb: Verb, entry: str, image: str | None) -> str | None:
    access = Access(verb, entry, ImageReference.parse(image) if image else None)
    return refusal([access], rights, lambda name: RegistryUri.parse(f"{name}.example.com"))


def test_a_refusal_says_what_the_account_may() -> None:
    rights = Rights("team-a", ML)
    assert refused(rights, Verb.PUSH, "prod", "prod.example.com/ml/a:1") is None
    assert refused(rights, Verb.PUSH, "prod", "prod.example.com/web/app:1") == (
        "account team-a may not push to prod/web/app; it may push to prod/ml/**"
    )
    assert refused(rights, Verb.PUSH, "prod", "other.example.com/ml/a:1") == (
        "account team-a may not push to other.example.com/ml/a, which is not under "
        "prod.example.com (prod); it may push to prod/ml/**"
    )
    assert refused(rights, Verb.COPY_FROM, "hub", None) is None
    assert refused(rights, Verb.COPY_TO, "prod", None) == (
        "account team-a may not copy to prod; it may copy to no repository"
    )
    scoped = rights.intersect(Grants.of({"push": ["prod/ml/x"]}))
    assert refused(scoped, Verb.PUSH, "prod", "prod.example.com/ml/y:1") == (
        "account team-a may not push to prod/ml/y; it may push to prod/ml/**, and the request's "
        "scope has prod/ml/x"
    )
    assert refused(Rights.none("x"), Verb.PUSH, "prod", "prod.example.com/a:1") == (
        "account x may not push to prod/a; it may do nothing: the section accounts of the workers' "
        "catalog lacks it"
    )


def test_what_workers_publish_reads_back_equal() -> None:
    rights = Rights(
        "team-a", ML, limits=Limits(5, None), weight=2, labels={"a": "b"}, acts_for=frozenset("xy")
    )
    assert Rights.parse(rights.to_json()) == rights


@pytest.mark.parametrize(
    "text",
    ["", "[]", "7", "{}", '{"account":"a","push":7}', '{"account":"a","push":["/"]}', "[" * 9],
)
def test_what_another_version_published_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Rights.parse(text)


@pytest.mark.parametrize(
    ("image", "uri", "expected"),
    [
        ("r.example.com/ml/a:1", "r.example.com/ml", "a"),
        ("r.example.com/ml/a/b:1", "r.example.com/ml", "a/b"),
        ("r.example.com/ml:1", "r.example.com/ml", ""),
        ("r.example.com/mlx/a:1", "r.example.com/ml", None),
        ("r.example.com:5000/ml/a:1", "r.example.com/ml", None),
        ("r.example.com/ml/a:1", "r.example.com", "ml/a"),
        ("alpine", "docker.io", "library/alpine"),
    ],
)
def test_a_repository_is_named_as_it_follows_the_uri(
    image: str, uri: str, expected: str | None
) -> None:
    assert repository_in(ImageReference.parse(image), RegistryUri.parse(uri)) == expected
