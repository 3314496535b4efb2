"""What people see of an account: its rights, its jobs and what was refused."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from transship.model.rights import Rights


class AccountRecord(BaseModel):
    """What is known of one account, as ``--json`` prints it; ``null``: it cannot be read."""

    model_config = ConfigDict(frozen=True)

    name: str
    #: Whether the catalogs of live workers list it; ``None``: they have no section ``accounts``, or
    #: this client may not know.
    in_catalog: bool | None = None
    #: Its rights, once for each version of the section that live workers go by: ``push``,
    #: ``copy_from``, ``copy_to``, ``limits``, ``weight``, ``labels`` and ``acts_for``.
    rights: list[dict[str, Any]] = Field(default_factory=list)
    #: Jobs that run, and jobs that wait for their start or their next attempt.
    running: int | None = None
    queued: int | None = None
    #: Its part of the slots while each account that has jobs now wants more, from 0 to 1.
    share: float | None = None
    #: Jobs that it may not have done, by the error's code, since the counting began.
    refused: dict[str, int] | None = None

    def to_json(self) -> str:
        """One line of JSON."""
        return self.model_dump_json()

    @property
    def weight(self) -> int:
        """Its share beside other accounts, as the first of its rights has it."""
        return int(self.rights[0].get("weight") or 1) if self.rights else 1

    @property
    def busy(self) -> bool:
        """Whether it has jobs that run or wait."""
        return bool(self.running) or bool(self.queued)

    @classmethod
    def with_rights(cls, name: str, rights: list[Rights], **fields: Any) -> AccountRecord:
        """The record of an account with what workers publish of it."""
        published = [json.loads(one.to_json()) for one in rights]
        for one in published:
            one.pop("account", None)
        return cls(name=name, rights=published, **fields)


def shared(records: list[AccountRecord]) -> list[AccountRecord]:
    """The records of all accounts with the share of each.

    The share of one that has no jobs is what it would have if it had some.
    """
    busy = sum(one.weight for one in records if one.busy)
    found = []
    for one in records:
        whole = busy if one.busy else busy + one.weight
        found.append(one.model_copy(update={"share": round(one.weight / whole, 4)}))
    return found
