"""Which repositories of the targets a rule can write to, before any registry was asked.

A repository is copied as soon as it is planned, unless another rule can aim at the same
target repository: then a collision may still show.
"""

from __future__ import annotations

from transship.model.migration.specification import Rule, Spec


class Aims:
    """The target repositories of one rule; built once, asked often."""

    def __init__(self, rule: Rule) -> None:
        template = rule.target.repository
        self._registry = rule.target.registry
        self._names = set[str]()
        for repository in rule.source.explicit:
            try:
                self._names.add(template.fill(repository, ""))
            except ValueError:
                continue  # the planner names it as a mistake when it comes to it
        self._patterns = [
            template.results(pattern)
            for pattern in rule.source.repositories
            if pattern.needs_catalogue
        ]

    def may_cover(self, registry: str, repository: str) -> bool:
        """Whether the rule can write to this repository of a target component.

        Never wrong when it says no. Components are told apart by name: two that have one URI
        must be given under one name.
        """
        return registry == self._registry and (
            repository in self._names
            or any(pattern.matches(repository) for pattern in self._patterns)
        )


class AllAims:
    """The target repositories of all rules of a specification."""

    def __init__(self, spec: Spec) -> None:
        self._aims = [Aims(rule) for rule in spec.rules]

    def shared(self, rule: int, registry: str, repository: str) -> bool:
        """Whether another rule than this one can write to the repository too."""
        return any(
            aims.may_cover(registry, repository)
            for index, aims in enumerate(self._aims)
            if index != rule
        )
