"""Makes a worker one of the next version, which reads requests of version 2 as well."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from transship.model.copy_request import CopyRequest

if TYPE_CHECKING:
    from transship.model.requests import Request


class NewerCopy(CopyRequest):
    """A copy that asks for what only the next version can do."""

    def to_stored(self) -> str:
        """Of version 2, with a field that version 1 does not have."""
        return json.dumps(json.loads(super().to_stored()) | {"version": 2, "sign_with": "a key"})


def install() -> None:
    """Replace how requests are read."""
    from transship.model.requests import parse_request as read
    from transship_worker.jobs import runner

    def read_newer(body: str | bytes) -> Request:
        fields: Any = json.loads(body)
        if fields.get("version") == 2:
            fields["version"] = 1
            fields.pop("sign_with", None)
        return read(json.dumps(fields))

    runner.parse_request = read_newer  # type: ignore[attr-defined]
