"""Types of the fields that specifications and plans share, as pydantic reads and writes them."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import (
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    StrictBool,
    StrictInt,
    ValidationInfo,
)

from transship.model.migration.budget import Budget, counted
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


def _pattern(value: object, info: ValidationInfo) -> object:
    if isinstance(value, RepositoryPattern):
        return value
    return counted(info.context, RepositoryPattern.parse, text_of, value)


def _expression(value: object, info: ValidationInfo) -> object:
    if isinstance(value, Expression):
        return value
    budget = info.context
    parse = budget.expression if isinstance(budget, Budget) else Expression.parse
    return counted(budget, parse, text_of, value)


def _range(value: object, info: ValidationInfo) -> object:
    if isinstance(value, VersionRange):
        return value
    budget = info.context
    parse = budget.version_range if isinstance(budget, Budget) else VersionRange.parse
    return counted(budget, parse, text_of, value)


def _platform(value: object, info: ValidationInfo) -> object:
    if isinstance(value, Platform):
        return value
    return counted(info.context, Platform.parse, text_of, value)


def _repository_template(value: object, info: ValidationInfo) -> object:
    if isinstance(value, Template):
        return value
    return counted(info.context, partial(Template.parse, kind="repository"), text_of, value)


def _tag_template(value: object, info: ValidationInfo) -> object:
    if isinstance(value, Template):
        return value
    return counted(info.context, partial(Template.parse, kind="tag"), text_of, value)


def _repository(value: object, info: ValidationInfo) -> object:
    return counted(info.context, _checked_repository, text_of, value)


def _tag(value: object, info: ValidationInfo) -> object:
    return counted(info.context, _checked_tag, text_of, value)


def _checked_repository(text: str) -> str:
    if not is_repository(text):
        raise ValueError(repository_problem(text))
    return text


def _checked_tag(text: str) -> str:
    if not is_tag(text):
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
