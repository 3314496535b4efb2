"""Every ``TRANSSHIP_*`` variable: meaning, unit and default.

Settings are read once, at the entry point, and passed down.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, ValidationError

from transship_config.errors import InvalidSettings
from transship_config.names import DEFAULT_ACCOUNT, NAME_PATTERN
from transship_config.redis_url import check_url, parse_url
from transship_config.text import did_you_mean

PREFIX: Final = "TRANSSHIP_"
#: Variables that are meant as settings: the prefix, also in another case or with one S too few.
_PREFIXED: Final = re.compile(r"transs?hip_", re.IGNORECASE)
#: Variables with the prefix that are not settings but are read by name elsewhere.
_OTHERS: Final = frozenset({"TRANSSHIP_DEV_CACHE"})
Seconds = Annotated[float, Field(gt=0, le=30 * 24 * 3600)]


class Settings(BaseModel):
    """Settings of producers and workers; each field is the variable of its name in capitals."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: SecretStr = Field(
        SecretStr(""),
        description="Where the queue is: redis://[user:password@]host:port/db, rediss:// for TLS, "
        "or sentinel://host:port,host:port/service/db. "
        "When unset, the one that `transship up` started is used, else "
        "redis://127.0.0.1:6379/0.",
    )
    namespace: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")] = (
        Field(
            "transship",
            description="First part of every Redis key, so that several fleets can share a Redis.",
        )
    )
    catalog: str = Field(
        "",
        description="The worker's catalogue of registry components; a path. "
        "When unset: transship/catalog.yaml in the user's configuration folder.",
    )
    engine_name: Annotated[str, StringConstraints(pattern=rf"^$|{NAME_PATTERN}")] = Field(
        "",
        description="The name a worker gives its Docker Engine. "
        "When unset: the one in `docker info`.",
    )
    pushes: Annotated[int, Field(ge=1, le=256)] = Field(
        4, description="Interactive pushes that a worker runs at once."
    )
    bulk: Annotated[int, Field(ge=0, le=256)] = Field(
        4,
        description="Bulk jobs that a worker runs at once, in slots of their own; "
        "0: this worker takes none.",
    )
    copies: Annotated[int, Field(ge=0, le=256)] = Field(
        32,
        description="Copies from registry to registry that a worker runs at once, in slots of "
        "their own; 0: this worker takes none, and plans no migrations.",
    )
    lease: Seconds = Field(
        60,
        description="Seconds after which a silent worker's job may be taken over. "
        "It is renewed every second, or at a third of it where that is less.",
    )
    reap: Seconds = Field(2, description="Seconds between two sweeps of the reaper.")
    grace: Seconds = Field(
        20,
        description="Seconds that running pushes may go on after SIGTERM, before they are handed "
        "back to the queue.",
    )
    stall: Seconds = Field(
        180,
        description="Seconds without progress after which a push is given up and retried. The "
        "Docker Engine by itself retries a broken upload for about 50 s.",
    )
    attempts: Annotated[int, Field(ge=1, le=100)] = Field(
        5, description="Attempts (errors that may be retried, lost workers) before a job fails."
    )
    backoff: Seconds = Field(
        5, description="Seconds before the second attempt, on average; doubled for each one after."
    )
    backoff_max: Seconds = Field(600, description="The longest wait between attempts, in seconds.")
    keep_succeeded: Seconds = Field(
        7 * 24 * 3600, description="Seconds that a succeeded job is kept."
    )
    keep_failed: Seconds = Field(30 * 24 * 3600, description="Seconds that a failed job is kept.")
    keep_cancelled: Seconds = Field(
        7 * 24 * 3600, description="Seconds that a cancelled job is kept."
    )
    wait_replicas: Annotated[int, Field(ge=0, le=16)] = Field(
        0,
        description="Replicas that must acknowledge each submit and each end of a job within a "
        "second; 0: Redis is not asked.",
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="One line an event, as text or as JSON."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="What the worker logs."
    )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read the settings; an empty variable counts as unset.

        Raises:
            InvalidSettings: naming the variable, its value (never that of a URL) and the rule;
                also for a variable with the prefix that does not exist.
        """
        environment = os.environ if environment is None else environment
        values: dict[str, str] = {}
        for name, value in environment.items():
            if not _PREFIXED.match(name) or name in _OTHERS or value == "":
                continue
            field = name.removeprefix(PREFIX).lower()
            if field not in cls.model_fields or name != variable(field):
                known = [variable(field) for field in cls.model_fields]
                told = did_you_mean(name.upper(), known)
                raise InvalidSettings(f"{name} is not a setting;{told}")
            values[field] = value
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = str(first["loc"][0])
            raise InvalidSettings(f"{variable(field)}={values[field]!r}: {_rule(first)}") from None
        if settings.url.get_secret_value():
            check_url(settings.url.get_secret_value())
        return settings

    def overridden(self, given: Mapping[str, object]) -> Self:
        """The same settings with those that a command line gave; ``None``: not given.

        Raises:
            InvalidSettings: a value that cannot be used.
        """
        values = {field: getattr(self, field) for field in type(self).model_fields}
        values |= {field: value for field, value in given.items() if value is not None}
        try:
            return type(self).model_validate(values)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = str(first["loc"][0])
            option = "--" + field.replace("_", "-")
            raise InvalidSettings(f"{option}: {_rule(first)}") from None

    @property
    def account(self) -> str:
        """The Redis account that the URL logs in as."""
        url = self.url.get_secret_value()
        return parse_url(url).account if url else DEFAULT_ACCOUNT


def _rule(error: Mapping[str, Any]) -> str:
    """The rule that a value breaks, as the end of a message."""
    text = str(error["msg"])
    return text[:1].lower() + text[1:]


def settings_with_url(settings: Settings, url: str) -> Settings:
    """The same settings with the Redis URL settled.

    Raises:
        InvalidSettings: the URL cannot be used.
    """
    check_url(url)
    return settings.model_copy(update={"url": SecretStr(url)})


def variable(field: str) -> str:
    """The environment variable of a setting."""
    return f"{PREFIX}{field.upper()}"
