"""Any request of the ledger, whatever its kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from longshore_config.job import PushRequest

if TYPE_CHECKING:
    from pydantic import TypeAdapter

    from longshore_config.copying import CopyRequest
    from longshore_config.migration.request import MigrationRequest

    Request: TypeAlias = PushRequest | CopyRequest | MigrationRequest

_adapter: TypeAdapter[Request] | None = None


def parse_request(body: str | bytes) -> Request:
    """Read a request as it stands in Redis, as untrusted input.

    Raises:
        pydantic.ValidationError: it is none.
    """
    # A push names no kind: such requests were written before there were others. What pushes do
    # not need is not imported for them.
    if (b'"kind"' if isinstance(body, bytes) else '"kind"') not in body:  # type: ignore[operator]
        return PushRequest.model_validate_json(body)
    global _adapter
    if _adapter is None:
        _adapter = _make_adapter()
    return _adapter.validate_json(body)


def _make_adapter() -> TypeAdapter[Request]:
    from pydantic import Discriminator, Tag, TypeAdapter

    from longshore_config.copying import CopyRequest
    from longshore_config.migration.request import MigrationRequest

    kinds = (
        Annotated[PushRequest, Tag("push")]
        | Annotated[CopyRequest, Tag("copy")]
        | Annotated[MigrationRequest, Tag("migration")]
    )
    return TypeAdapter(Annotated[kinds, Discriminator(_kind)])


def _kind(value: Any) -> str:
    found = value.get("kind") if isinstance(value, dict) else None
    return found if found in {"copy", "migration"} else "push"
