"""Makes a worker one of the next version, which reads requests of the next version as well."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from transship.model.copy_request import CopyRequest
from transship.model.jobs import Kind
from transship.model.requests import VERSIONS

if TYPE_CHECKING:
    from transship.model.requests import Request


#: The version that no worker of today reads.
NEXT: Final = VERSIONS[Kind.COPY] + 1


class NewerCopy(CopyRequest):
    """A copy that asks for what only the next version can do."""

    def to_stored(self) -> str:
        """Of the next version, with a field that this one does not have."""
        return json.dumps(json.loads(super().to_stored()) | {"version": NEXT, "sign_with": "a key"})


def install() -> None:
    """Replace how requests are read."""
    from transship.model.requests import parse_request as read
    from transship_worker.jobs import runner

    def read_newer(body: str | bytes) -> Request:
        fields: Any = json.loads(body)
        if fields.get("version") == NEXT:
            fields["version"] = 1
            fields.pop("sign_with", None)
        return read(json.dumps(fields))

    runner.parse_request = read_newer  # type: ignore[attr-defined]
