"""What a person asks for: rules that say what goes where.

Repositories are written as they follow the component's URI: with ``gcr.io/acme`` as the URI,
``tools/cat`` is ``gcr.io/acme/tools/cat``. So no rule can name what lies outside a component.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator

from transship.errors import InvalidReference
from transship.model.migration.budget import Budget
from transship.model.migration.fields import (
    MODEL,
    ExpressionField,
    Flag,
    Listed,
    PatternField,
    PlatformField,
    RepositoryTemplate,
    TagTemplate,
    Text,
    Version,
)
from transship.model.migration.mistakes import Mistake, SpecError, explain, shown
from transship.model.migration.names import Template
from transship.model.migration.selection import MOST_EXPRESSIONS, TagSelection
from transship.model.references import RegistryUri
from transship.model.stored_text import SPECIFICATION, problem_of
from transship_config.names import NAME_PATTERN

#: Rules of a specification.
MOST_RULES: Final = 1_000
#: Names and patterns of one rule.
MOST_REPOSITORIES: Final = 10_000
#: Platforms of one rule.
MOST_PLATFORMS: Final = 64

_NAME = re.compile(NAME_PATTERN, re.ASCII)


class OnConflict(StrEnum):
    """What to do where the target has a tag with another digest."""

    SKIP = "skip"
    OVERWRITE = "overwrite"
    FAIL = "fail"


class ForeignLayers(StrEnum):
    """What to do with layers that a registry need not hold (nondistributable, foreign)."""

    #: Copy those that the source holds; leave the others as references.
    COPY = "copy"
    #: Leave them all as references.
    REFERENCE = "reference"


def _is_name(value: str) -> str:
    # fullmatch: the pattern's "$" would let a line feed through.
    if not _NAME.fullmatch(value):
        raise ValueError(
            f"{shown(value)} is no name; write up to 63 letters, digits, '_', '.' and '-', "
            "starting with a letter or digit"
        )
    return value


def _is_component_or_host(value: str) -> str:
    if _NAME.fullmatch(value):
        return value
    try:
        uri = RegistryUri.parse(value)
    except InvalidReference:
        uri = None
    if uri is None or uri.path or len(value) > 255:
        raise ValueError(
            f"{shown(value)} is no component; write its name, or a host that may be read without "
            "one, such as quay.io or localhost:5000"
        )
    return str(uri)


ComponentName = Annotated[Text, AfterValidator(_is_name)]
SourceName = Annotated[Text, AfterValidator(_is_component_or_host)]


class Source(BaseModel):
    """Where a rule reads."""

    model_config = MODEL

    registry: SourceName = Field(
        description="the name of a registry component, or a host that may be read without one"
    )
    repositories: Annotated[
        Listed[PatternField], Field(min_length=1, max_length=MOST_REPOSITORIES)
    ] = Field(description="a list of names or patterns, such as [acme/cat, 'tools/*']")

    @property
    def needs_catalogue(self) -> bool:
        """Whether the registry must be able to list its repositories."""
        return any(pattern.needs_catalogue for pattern in self.repositories)

    @property
    def explicit(self) -> list[str]:
        """The names that are written out, each once, in their order."""
        named = (str(one) for one in self.repositories if not one.needs_catalogue)
        return list(dict.fromkeys(named))

    def covers(self, repository: str) -> bool:
        """Whether a repository is meant."""
        return any(pattern.matches(repository) for pattern in self.repositories)


class Target(BaseModel):
    """Where a rule writes."""

    model_config = MODEL

    registry: ComponentName = Field(description="the name of a registry component")
    repository: RepositoryTemplate = Field(
        Template("{repository}", "repository"),
        description="a name with {repository} or {name} in it, such as 'mirror/{repository}'",
    )
    tag: TagTemplate = Field(
        Template("{tag}", "tag"), description="a tag with {tag} or {name} in it, such as '{tag}'"
    )


class Rule(BaseModel):
    """One ``from`` and one ``to``, and what is taken on the way."""

    model_config = MODEL

    source: Source = Field(
        alias="from", description="{registry: NAME, repositories: [NAME-OR-PATTERN]}"
    )
    target: Target = Field(alias="to", description="{registry: NAME, repository: TEMPLATE}")
    tags: TagSelection = Field(
        TagSelection(), description="{include: […], exclude: […], semver: RANGE, latest: NUMBER}"
    )
    #: Empty: all that an image has.
    platforms: Annotated[Listed[PlatformField], Field(max_length=MOST_PLATFORMS)] = Field(
        (), description="a list of platforms, such as [linux/amd64, linux/arm64]"
    )
    #: Whether signatures, SBOMs and attestations go along.
    referrers: Flag = Field(False, description="true or false")
    #: Whether layers that a registry need not hold are copied where the source holds them.
    foreign_layers: ForeignLayers = Field(ForeignLayers.COPY, description="one of copy, reference")
    #: A tag that fits and that the target has is not looked up at the source.
    immutable_tags: Annotated[Listed[ExpressionField], Field(max_length=MOST_EXPRESSIONS)] = Field(
        (), description="a list of regular expressions, such as ['^v[0-9]']"
    )
    on_conflict: OnConflict = Field(
        OnConflict.OVERWRITE, description="one of skip, overwrite, fail"
    )

    @model_validator(mode="after")
    def _goes_somewhere(self) -> Self:
        names = (str(self.target.repository), str(self.target.tag))
        if self.source.registry == self.target.registry and names == ("{repository}", "{tag}"):
            raise ValueError(
                f"copies {self.target.registry} onto itself; give 'to' another registry, "
                "repository or tag"
            )
        return self

    def is_immutable(self, tag: str) -> bool:
        """Whether a tag that the target has is taken for the source's without asking."""
        return any(one.found_in(tag) for one in self.immutable_tags)

    def wants(self, repository: str) -> bool:
        """Whether a repository that the source's catalogue names is meant."""
        return self.source.covers(repository)


class Spec(BaseModel):
    """A migration as it is asked for."""

    model_config = MODEL

    version: Version = Field(description="1")
    name: ComponentName = Field(description="a name for people, such as hub-to-ecr")
    rules: Annotated[Listed[Rule], Field(min_length=1, max_length=MOST_RULES)] = Field(
        description="a list of rules, each with 'from' and 'to'"
    )

    @classmethod
    def parse(cls, data: object) -> Self:
        """Check what a YAML or JSON document holds.

        Raises:
            SpecError: every mistake, with the keys that lead to it.
        """
        if not isinstance(data, Mapping):
            text = "a specification is a mapping with the keys version, name and rules"
            raise SpecError([Mistake((), f"{shown(data)} cannot be used; {text}")])
        try:
            return cls.model_validate(dict(data), context=Budget())
        except ValidationError as error:
            raise SpecError(explain(error, _MODELS)) from None

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what ``to_json`` wrote, as untrusted input.

        Raises:
            SpecError: every mistake, with the keys that lead to it.
        """
        if (problem := problem_of(text, SPECIFICATION)) is not None:
            raise SpecError([Mistake((), problem)])
        try:
            return cls.model_validate_json(text, context=Budget())
        except ValidationError as error:
            raise SpecError(explain(error, _MODELS)) from None

    def to_json(self) -> str:
        """One line of JSON, without what is left at its default."""
        return self.model_dump_json(by_alias=True, exclude_defaults=True)

    def target_repository(self, rule: int, repository: str) -> str:
        """What a source repository is called at the target of the rule of this index.

        Raises:
            SpecError: no repository can be called so.
        """
        return self._fill(rule, "repository", repository, "a")

    def target_tag(self, rule: int, repository: str, tag: str) -> str:
        """What a source tag is called at the target of the rule of this index.

        Raises:
            SpecError: no tag can be called so.
        """
        return self._fill(rule, "tag", repository, tag)

    def _fill(self, rule: int, kind: Literal["repository", "tag"], name: str, tag: str) -> str:
        target = self.rules[rule].target
        template = target.repository if kind == "repository" else target.tag
        try:
            return template.fill(name, tag)
        except ValueError as error:
            what = f"{name}:{tag}" if kind == "tag" else name
            text = f"makes of {shown(what)}: {error}"
            raise SpecError([Mistake(("rules", rule, "to", kind), text)]) from None


_MODELS: Final[dict[str, type[BaseModel]]] = {
    "": Spec,
    "rules": Rule,
    "rules.from": Source,
    "rules.to": Target,
    "rules.tags": TagSelection,
}
