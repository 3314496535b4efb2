"""From rules to pairs of repositories: names that are written out, and those of catalogues."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from transship.errors import InvalidReference, NotAllowed
from transship.model.migration.names import Template, is_repository, repository_problem
from transship.model.migration.specification import Rule, Spec, Target
from transship.model.migration.target_index import AllAims
from transship.model.rights import Verb
from transship_config.errors import TransshipError, UsageError
from transship_worker.migrate.allowed import Allowed
from transship_worker.migrate.port import Side
from transship_worker.oci.names import Warn


@dataclass(frozen=True, slots=True)
class Pair:
    """A repository of a source, and the one of a target that a rule makes of it."""

    #: Index of the rule.
    rule: int
    source: str
    target: str
    #: Nothing else of the specification can aim at the target repository.
    alone: bool
    #: The rule writes the name out: that it does not exist is a mistake.
    explicit: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """A repository, or a tag of one, that could not be planned. The others go on."""

    #: Index of the rule.
    rule: int
    #: Of the source; the patterns, where the source could not list its repositories.
    repository: str
    error: TransshipError
    #: Tags of the source; empty: the whole repository.
    tags: tuple[str, ...] = ()

    def __str__(self) -> str:
        tags = f":{','.join(self.tags[:3])}{'…' if len(self.tags) > 3 else ''}" if self.tags else ""
        return f"rules[{self.rule}]: {self.repository}{tags}: {self.error.message}"


Take = Callable[[Pair], Awaitable[None]]
Report = Callable[[Failure], Awaitable[None]]


class Expansion:
    """The pairs of a specification, as they become known; a source's catalogue is read once.

    ``allowed``: what the account may have done, and where a component's repositories lie. A
    repository that it may not read is never named, unless the rule writes its name out.
    """

    def __init__(self, spec: Spec, sources: dict[str, Side], allowed: Allowed) -> None:
        self._spec = spec
        self._sources = sources
        self._allowed = allowed
        self._place = allowed.place
        self._aims = AllAims(
            spec.model_copy(update={"rules": tuple(self._placed(rule) for rule in spec.rules)})
        )

    async def run(self, take: Take, report: Report, warn: Warn) -> None:
        """Give each pair to ``take``, and what fails to ``report``.

        Raises:
            TransshipError: a registry failed in a way that may pass; nothing more is given.
        """
        self._take, self._report, self._warn = take, report, warn
        listed: dict[str, list[_Listed]] = {}
        for index, rule in enumerate(self._spec.rules):
            if rule.source.needs_catalogue:
                listed.setdefault(rule.source.registry, []).append(_Listed(index, rule))
        async with asyncio.TaskGroup() as group:
            for name, rules in listed.items():
                group.create_task(self._list(self._sources[name], rules))
            for index, rule in enumerate(self._spec.rules):
                if not rule.source.needs_catalogue or _is_one_to_one(rule):
                    await self._give_all(index, rule, rule.source.explicit)

    def _placed(self, rule: Rule) -> Rule:
        """The rule as seen from its target's host, where components can overlap."""
        host, _, path = self._place(rule.target.registry).partition("/")
        template = rule.target.repository
        if path:
            template = Template(f"{path}/{template}", "repository")
        target = Target.model_construct(registry=host, repository=template, tag=rule.target.tag)
        return rule.model_copy(update={"target": target})

    async def _list(self, side: Side, rules: list[_Listed]) -> None:
        """Read a source's catalogue for all rules that need it."""
        # What is said of the whole list is for those who may see it.
        warn = self._warn if self._allowed.reads_all(side.name) else lambda _: None
        pages = side.repositories(lambda text: warn(f"{side.name}: {text}"))
        try:
            async for whole_page in pages:
                page = self._allowed.readable(side.name, whole_page)
                for one in rules:
                    new = one.wanted(page)
                    if one.streams:
                        await self._give_all(one.index, one.rule, new)
        except TransshipError as error:
            if error.retryable:
                raise
            for one in rules:
                await self._report(Failure(one.index, one.patterns, error))
        else:
            for one in rules:
                if one.unmet:
                    self._warn(f"rules[{one.index}]: {side.name} has no repository {one.unmet}")
        finally:
            await _close(pages)
        for one in rules:
            if not one.streams:
                await self._give_all(one.index, one.rule, [*one.rule.source.explicit, *one.found])

    async def _give_all(self, index: int, rule: Rule, names: list[str]) -> None:
        """Give the pairs of one rule; unless it is one to one, all of them are in ``names``."""
        targets: dict[str, str] = {}
        for name in names:
            try:
                if not is_repository(name):
                    raise InvalidReference(repository_problem(name))
                target = self._spec.target_repository(index, name)
            except UsageError as error:
                await self._report(Failure(index, name, error))
                continue
            if (problem := self._problem(rule, name, target)) is not None:
                await self._report(Failure(index, name, NotAllowed(problem)))
            else:
                targets[name] = target
        count = Counter(targets.values())
        explicit = set(rule.source.explicit)
        host, _, path = self._place(rule.target.registry).partition("/")
        for name, target in targets.items():
            whole = f"{path}/{target}" if path else target
            alone = count[target] == 1 and not self._aims.shared(index, host, whole)
            await self._take(Pair(index, name, target, alone, name in explicit))

    def _problem(self, rule: Rule, source: str, target: str) -> str | None:
        """Why the account may not have this pair copied; ``None``: it may."""
        problem = self._allowed.problem
        return problem(Verb.COPY_FROM, rule.source.registry, source) or problem(
            Verb.COPY_TO, rule.target.registry, target
        )


class _Listed:
    """A rule that needs a catalogue, and what of it was taken."""

    def __init__(self, index: int, rule: Rule) -> None:
        self.index = index
        self.rule = rule
        self.streams = _is_one_to_one(rule)
        self._seen = set(rule.source.explicit)
        self._unmet = [one for one in rule.source.repositories if one.needs_catalogue]
        #: Names that wait until all are known.
        self.found: list[str] = []

    @property
    def patterns(self) -> str:
        """The rule's patterns, for messages."""
        every = [str(one) for one in self.rule.source.repositories if one.needs_catalogue]
        return ", ".join(every[:5]) + (", …" if len(every) > 5 else "")

    @property
    def unmet(self) -> str:
        """Patterns that no repository fits."""
        return ", ".join(map(str, self._unmet[:5]))

    def wanted(self, page: list[str]) -> list[str]:
        """The repositories of a page that the rule means, each once."""
        if self._unmet:
            self._unmet = [
                one for one in self._unmet if not any(one.matches(name) for name in page)
            ]
        new = [name for name in page if name not in self._seen and self.rule.wants(name)]
        # A page may name one twice, too.
        new = list(dict.fromkeys(new))
        self._seen.update(new)
        if not self.streams:
            self.found += new
        return new


def _is_one_to_one(rule: Rule) -> bool:
    """Whether no two repositories of the source become one of the target."""
    return "{repository}" in str(rule.target.repository)


async def _close(pages: AsyncIterator[list[str]]) -> None:
    """Close an iterator that may not have come to its end."""
    close = getattr(pages, "aclose", None)
    if close is not None:
        await close()
