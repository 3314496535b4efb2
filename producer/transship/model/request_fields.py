"""Fields that requests of several kinds share, and what a bad one is told."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BeforeValidator,
    PlainSerializer,
    StringConstraints,
)

from transship.model.jobs import Kind
from transship.model.on_behalf_of import OnBehalfOf
from transship.model.references import ImageReference
from transship_config.errors import UsageError
from transship_config.names import NAME_PATTERN
from transship_config.text import clean

#: Seconds that one attempt may run before it is given up. Unit: s.
DEFAULT_DEADLINE_S: Final = 6 * 3600
#: Seconds that a job may wait for its first start. Unit: s.
DEFAULT_EXPIRES_S: Final = 24 * 3600
#: The longest deadline or expiry that a request may ask for. Unit: s.
LONGEST_S: Final = 30 * 24 * 3600
#: Characters of a key, and of a problem, that a message repeats.
_LONGEST_PLACE: Final = 80
_LONGEST_PROBLEM: Final = 500
#: Labels a job may carry.
MOST_LABELS: Final = 32

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
LabelKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./-]{0,62}$")]


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("control characters are not allowed")
    return value


LabelValue = Annotated[str, StringConstraints(max_length=256), AfterValidator(_printable)]


def parse_reference(value: object) -> object:
    """A reference from its text; anything else as it is, for pydantic to refuse."""
    return ImageReference.parse(value) if isinstance(value, str) else value


Reference = Annotated[ImageReference, PlainSerializer(str, return_type=str)]


def _parse_on_behalf_of(value: object) -> OnBehalfOf | None:
    return None if value is None else OnBehalfOf.parse(value)


def _on_behalf_of_json(value: OnBehalfOf | None) -> dict[str, Any] | None:
    return None if value is None else value.as_json()


#: For whom the request is made, where its account acts for others; ``None``: for itself.
ForOthers = Annotated[
    OnBehalfOf | None,
    BeforeValidator(_parse_on_behalf_of),
    PlainSerializer(_on_behalf_of_json, return_type=dict[str, Any] | None),
]


def request_problem(error: ValueError) -> UsageError:
    """One line for the first mistake that pydantic found in a request."""
    errors = getattr(error, "errors", None)
    if errors is None:
        return UsageError(_short(str(error), _LONGEST_PROBLEM))
    first = errors(include_url=False, include_input=False, include_context=False)[0]
    # A request of a kind is found under that kind's name.
    found = [_short(str(part), _LONGEST_PLACE) for part in first["loc"]]
    place = ".".join(found[1:] if found[:1] and found[0] in set(Kind) else found) or "request"
    text = str(first["msg"]).removeprefix("Value error, ")
    return UsageError(f"{place}: {_short(text, _LONGEST_PROBLEM)}")


def _short(text: str, longest: int) -> str:
    """A text of anybody's for a message: printable, and not longer than that."""
    start = clean(text[:longest])
    return start if len(text) <= longest else f"{start}…"
