"""Whether two rules can write to one repository of the target."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transship.model.migration.names import RepositoryPattern, Template
from transship.model.migration.specification import Rule, Spec
from transship.model.migration.target_index import Aims, AllAims

_repositories = st.lists(st.text("ab1", min_size=1, max_size=2), min_size=1, max_size=3).map(
    "/".join
)
_patterns = st.text("ab/*", min_size=1, max_size=7)
_templates = st.lists(
    st.sampled_from(["{repository}", "{name}", "a", "/", "-"]), min_size=1, max_size=4
).map("".join)


def rule(template: str, *repositories: str, registry: str = "ecr") -> dict[str, object]:
    return {
        "from": {"registry": "hub", "repositories": list(repositories)},
        "to": {"registry": registry, "repository": template},
    }


@given(_patterns, _templates, _repositories)
def test_what_a_rule_can_write_to_is_never_denied(
    pattern: str, template: str, repository: str
) -> None:
    try:
        source = RepositoryPattern.parse(pattern)
        target = Template.parse(template, "repository").fill(repository, "x")
    except ValueError:
        return
    if source.matches(repository):
        aims = Aims(Rule.model_validate(rule(template, pattern)))

        assert aims.may_cover("ecr", target)
        assert not aims.may_cover("other", target)


@pytest.mark.parametrize(
    ("template", "pattern", "covered", "free"),
    [
        ("m/{repository}", "acme/*", "m/acme/cat", "m/tools/cat"),
        ("m/{name}", "acme/*", "m/cat", "m/acme/cat"),
        ("m/{name}", "acme/x-*", "m/x-cat", "m/cat"),
        ("m/{name}", "a**z", "m/bz", "n/az"),
        ("x{repository}", "**/cat", "xcat", "xdog"),
        ("fixed", "**", "fixed", "other"),
        ("m/{repository}", "acme/cat", "m/acme/cat", "m/acme/dog"),
    ],
)
def test_what_a_rule_cannot_write_to_is_left_free(
    template: str, pattern: str, covered: str, free: str
) -> None:
    aims = Aims(Rule.model_validate(rule(template, pattern)))

    assert aims.may_cover("ecr", covered)
    assert not aims.may_cover("ecr", free)


def test_a_repository_is_shared_only_with_another_rule() -> None:
    rules = [
        rule("m/{name}", "a/*"),
        rule("m/{name}", "b/cat"),
        rule("m/{name}", "c/*", registry="e"),
    ]
    aims = AllAims(Spec.parse({"version": 1, "name": "x", "rules": rules}))

    assert aims.shared(0, "ecr", "m/cat")
    assert not aims.shared(0, "ecr", "m/dog")
    assert aims.shared(1, "ecr", "m/cat")
    assert not aims.shared(2, "e", "m/cat")
