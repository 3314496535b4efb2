"""Any request of the ledger, whatever its kind, and what is to be done with one of tomorrow.

Each format of a request has a number, its ``version``. A request that asks for something that
the format before could not say carries the new number; all others keep the old one, so that
older workers go on with what they can do. A worker leaves what is newer than itself to a worker
that knows it (``newer``).
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

from pydantic import ValidationError

from transship.forks import loading
from transship.model.jobs import Kind
from transship.model.push_request import PushRequest
from transship.model.request_fields import request_problem
from transship.model.stored_text import (
    REQUEST,
    SHORT_SPECIFICATION,
    SPECIFICATION,
    Bounds,
    problem_of,
    refused,
)

if TYPE_CHECKING:
    from pydantic import TypeAdapter

    from transship.model.copy_request import CopyRequest
    from transship.model.migration.request import MigrationRequest

    Request: TypeAlias = PushRequest | CopyRequest | MigrationRequest

#: The newest format of each kind that this version reads.
VERSIONS: Final = {Kind.PUSH: 3, Kind.COPY: 2, Kind.MIGRATION: 2}
#: What the stored request of a migration begins with.
MIGRATION_HEAD: Final = '{"kind":"migration"'
#: Above this a version is a mistake.
_MOST_VERSION: Final = 1_000
#: What is looked at of a request to know it again, and characters of a name that is shown of it.
LONGEST_GLIMPSE: Final = 512
#: What a kind of work may be called.
_KIND: Final = re.compile(r"[a-z][a-z_-]{0,30}")

#: The same as it is written, up to its name.
_MIGRATION: Final = re.compile(
    re.escape(MIGRATION_HEAD)
    + r',"version":\d{1,4},"mode":"(?P<mode>[a-z]{1,16})","name":"(?P<name>[A-Za-z0-9_.-]{1,63})"'
)

_adapter: TypeAdapter[Request] | None = None


def parse_request(body: str | bytes) -> Request:
    """Read a request as it stands in Redis, as untrusted input.

    What it costs is bounded, whatever it holds: ``./dev bench parse`` measures it.

    Raises:
        pydantic.ValidationError: it is none.
    """
    bounds = bounds_of(body)
    if (problem := problem_of(body, bounds)) is not None:
        raise refused(problem)
    # A push names no kind: such requests were written before there were others. What pushes do
    # not need is not imported for them.
    if (b'"kind"' if isinstance(body, bytes) else '"kind"') not in body:  # type: ignore[operator]
        return PushRequest.model_validate_json(body)
    global _adapter
    if _adapter is None:
        _adapter = _make_adapter()
    with loading():
        from transship.model.migration.budget import Budget, TooManyMistakes

    try:
        budget = Budget.of_a_stored_text(short=bounds is not SPECIFICATION)
        return _adapter.validate_json(body, context=budget)
    except TooManyMistakes as first:
        problem = f"too many of its values cannot be used; the first one: {first}"
        raise refused(problem) from None


def bounds_of(body: str | bytes) -> Bounds:
    """What a request may hold: that of a migration begins with its kind, and may be longer."""
    head = body[: len(MIGRATION_HEAD)]
    if (head if isinstance(head, str) else head.decode("latin-1")) != MIGRATION_HEAD:
        return REQUEST
    return SPECIFICATION if len(body) > SHORT_SPECIFICATION.longest else SHORT_SPECIFICATION


def newer(body: str | bytes) -> str | None:
    """Of which format a request is that only a newer version can read; ``None``: it is not.

    Only looked at when a request does not parse: a body that says so may be anything else.
    """
    fields = _fields(body)
    kind, version = fields.get("kind", Kind.PUSH), fields.get("version")
    if not isinstance(kind, str) or not _KIND.fullmatch(kind):
        return None
    if isinstance(version, bool) or not isinstance(version, int) or version > _MOST_VERSION:
        return None
    if version > (VERSIONS[Kind(kind)] if kind in set(Kind) else 0):
        return f"{kind} request of version {version}"
    return None


def glimpse(body: str | bytes) -> dict[str, Any]:
    """What a record may say of a request that does not parse, so that people know it again.

    Of a long one the beginning is enough.
    """
    if found := _MIGRATION.match(_head(body)):
        return {"kind": Kind.MIGRATION, "image": found["name"], "registry": "", "bulk": True}
    fields = _fields(body)
    kind = fields.get("kind", Kind.PUSH)
    known = {"kind": Kind(kind)} if isinstance(kind, str) and kind in set(Kind) else {}
    image = fields.get("name" if known.get("kind") is Kind.MIGRATION else "image")
    texts = {"image": image, "registry": fields.get("registry")}
    return known | {
        name: text
        for name, text in texts.items()
        if isinstance(text, str) and text.isprintable() and 0 < len(text) <= LONGEST_GLIMPSE
    }


def mode_of(body: str | bytes) -> str | None:
    """The mode of a migration from the beginning of its request as we write it; else ``None``."""
    found = _MIGRATION.match(_head(body))
    return found and found["mode"]


def _head(body: str | bytes) -> str:
    head = body[:LONGEST_GLIMPSE]
    return head if isinstance(head, str) else head.decode("latin-1")


def _fields(body: str | bytes) -> dict[str, Any]:
    if problem_of(body, bounds_of(body)) is not None:
        return {}
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _make_adapter() -> TypeAdapter[Request]:
    with loading():
        from pydantic import Discriminator, Tag, TypeAdapter

        from transship.model.copy_request import CopyRequest
        from transship.model.migration.request import MigrationRequest

    kinds = (
        Annotated[PushRequest, Tag("push")]
        | Annotated[CopyRequest, Tag("copy")]
        | Annotated[MigrationRequest, Tag("migration")]
    )
    return TypeAdapter(Annotated[kinds, Discriminator(_kind)])


def _kind(value: Any) -> str:
    found = value.get("kind") if isinstance(value, dict) else None
    return found if isinstance(found, str) and found in {"copy", "migration"} else "push"


def check_stored(text: str) -> None:
    """Refuse to write a request that no worker would read.

    Raises:
        UsageError: it is too long, or its specification costs too much to read.
    """
    # What pydantic has checked of a push or a copy bounds all but its length.
    if len(text) > REQUEST.longest or text.startswith(MIGRATION_HEAD):
        try:
            parse_request(text)
        except ValidationError as error:
            raise request_problem(error) from None
