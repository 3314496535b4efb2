"""What a producer asks for when a migration is to be planned, or planned and run."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from transship.model.jobs import Kind
from transship.model.migration.specification import ComponentName, Spec
from transship.model.request_fields import LONGEST_S, ForOthers
from transship.model.rights import Access, Verb
from transship_config.lanes import PLAN_QUEUE

#: The version of a request on behalf of another account.
ON_BEHALF_OF_VERSION: Final = 2


class Mode(StrEnum):
    """What is to become of the rows."""

    #: They go back to the producer, and nothing is written to a target.
    PLAN = "plan"
    #: They become jobs.
    RUN = "run"


class MigrationRequest(BaseModel):
    """A migration. Its id is the job's id of the planning itself."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    kind: Literal["migration"] = "migration"
    version: Literal[1, 2] = 1
    mode: Mode
    name: ComponentName
    #: Absent: the rows of a plan were written to Redis by the producer, and are run.
    spec: Spec | None = None
    #: How many rows the producer wrote, without a specification.
    rows: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    #: Its copies are made on behalf of the same account.
    on_behalf_of: ForOthers = None
    #: Seconds that planning may run. Unit: s.
    deadline_s: Annotated[int, Field(ge=1, le=LONGEST_S)] = LONGEST_S
    #: Seconds it may wait for its first start. Unit: s.
    expires_s: Annotated[int, Field(ge=1, le=LONGEST_S)] = 7 * 24 * 3600

    @model_validator(mode="before")
    @classmethod
    def _version_of_the_fields(cls, fields: Any) -> Any:
        """Give a request that a worker of version 1 cannot read the version that says so."""
        if isinstance(fields, dict) and fields.get("on_behalf_of") is not None:
            return {"version": ON_BEHALF_OF_VERSION} | fields
        return fields

    @model_validator(mode="after")
    def _has_one_origin(self) -> Self:
        if self.spec is None and self.mode is Mode.PLAN:
            raise ValueError("a plan is made from a specification")
        if self.spec is not None and self.rows:
            raise ValueError("choose one: a specification, or the rows of a plan")
        return self

    @property
    def queue(self) -> str:
        """The queue that it waits in."""
        return PLAN_QUEUE

    def target(self, job: str) -> str:
        """What only one job at a time may write: each migration is its own."""
        return f"migration:{job}"

    def fingerprint(self) -> str:
        """Empty: no two migrations are the same, because each has rows and a reader of its own."""
        return ""

    def to_stored(self) -> str:
        """The JSON that the ledger holds: without what is left at its default, but the kind."""
        fields = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return json.dumps(
            {"kind": self.kind, "version": self.version} | fields, separators=(",", ":")
        )

    @property
    def accesses(self) -> tuple[Access, ...]:
        """What its account must have some right to do; each row is checked by itself."""
        rules = self.spec.rules if self.spec is not None else ()
        sources = (Access(Verb.COPY_FROM, rule.source.registry) for rule in rules)
        targets = (Access(Verb.COPY_TO, rule.target.registry) for rule in rules)
        return tuple(dict.fromkeys((*sources, *targets)))

    def facts(self) -> dict[str, Any]:
        """What the record says of the request itself."""
        return {"kind": Kind.MIGRATION, "image": self.name, "registry": "", "bulk": True}

    @property
    def display(self) -> str:
        """One line for people, shown in Flower."""
        return f"{self.mode} migration {self.name}"
