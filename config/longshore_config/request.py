"""Any request of the ledger, whatever its kind."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import Discriminator, Tag, TypeAdapter

from longshore_config.copying import CopyRequest
from longshore_config.job import PushRequest
from longshore_config.migration.request import MigrationRequest

Request = PushRequest | CopyRequest | MigrationRequest


def _kind(value: Any) -> str:
    # A push names no kind: such requests were written before there were others.
    found = value.get("kind", "push") if isinstance(value, dict) else "push"
    return found if found in {"copy", "migration"} else "push"


_ADAPTER: Final = TypeAdapter[Request](
    Annotated[
        Annotated[PushRequest, Tag("push")]
        | Annotated[CopyRequest, Tag("copy")]
        | Annotated[MigrationRequest, Tag("migration")],
        Discriminator(_kind),
    ]
)


def parse_request(body: str | bytes) -> Request:
    """Read a request as it stands in Redis, as untrusted input.

    Raises:
        pydantic.ValidationError: it is none.
    """
    return _ADAPTER.validate_json(body)


def target_of(request: Request, job: str) -> str:
    """What only one job at a time may write: a reference; a migration is its own."""
    return f"migration:{job}" if isinstance(request, MigrationRequest) else str(request.image)
