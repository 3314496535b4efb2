"""Types of the fields that specifications and plans share, as pydantic reads and writes them."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BeforeValidator, ConfigDict, PlainSerializer, StrictBool, StrictInt

from transship.model.migration.expression import Expression
from transship.model.migration.mistakes import list_of, shown, text_of
from transship.model.migration.names import (
    RepositoryPattern,
    Template,
    is_repository,
    is_tag,
    repository_problem,
    tag_problem,
)
from transship.model.migration.platforms import Platform
from transship.model.migration.versions import VersionRange

#: Values of ours are read from texts and written as texts; unknown keys are refused.
MODEL: Final = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

_Item = TypeVar("_Item")


def _whole(value: object) -> object:
    # To Python, true and 1.0 equal 1.
    if isinstance(value, bool | float):
        raise ValueError(f"{shown(value)} cannot be used; write 1")  # noqa: TRY004
    return value


Listed = Annotated[tuple[_Item, ...], BeforeValidator(list_of)]
Text = Annotated[str, BeforeValidator(text_of)]
Flag = StrictBool
#: The one version of the formats; a worker refuses a version that it does not know.
Version = Annotated[Literal[1], BeforeValidator(_whole)]
Number = StrictInt


def _pattern(value: object) -> object:
    return (
        value if isinstance(value, RepositoryPattern) else RepositoryPattern.parse(text_of(value))
    )


def _expression(value: object) -> object:
    return value if isinstance(value, Expression) else Expression.parse(text_of(value))


def _range(value: object) -> object:
    return value if isinstance(value, VersionRange) else VersionRange.parse(text_of(value))


def _platform(value: object) -> object:
    return value if isinstance(value, Platform) else Platform.parse(text_of(value))


def _repository_template(value: object) -> object:
    return value if isinstance(value, Template) else Template.parse(text_of(value), "repository")


def _tag_template(value: object) -> object:
    return value if isinstance(value, Template) else Template.parse(text_of(value), "tag")


def _repository(value: object) -> object:
    if not is_repository(text := text_of(value)):
        raise ValueError(repository_problem(text))
    return text


def _tag(value: object) -> object:
    if not is_tag(text := text_of(value)):
        raise ValueError(tag_problem(text))
    return text


def _written(value: Any) -> str:
    return str(value)


_AsText = PlainSerializer(_written, return_type=str)

PatternField = Annotated[RepositoryPattern, BeforeValidator(_pattern), _AsText]
ExpressionField = Annotated[Expression, BeforeValidator(_expression), _AsText]
RangeField = Annotated[VersionRange, BeforeValidator(_range), _AsText]
PlatformField = Annotated[Platform, BeforeValidator(_platform), _AsText]
RepositoryTemplate = Annotated[Template, BeforeValidator(_repository_template), _AsText]
TagTemplate = Annotated[Template, BeforeValidator(_tag_template), _AsText]
Repository = Annotated[str, BeforeValidator(_repository)]
Tag = Annotated[str, BeforeValidator(_tag)]
