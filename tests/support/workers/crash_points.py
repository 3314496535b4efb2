"""A worker that dies at one point of a job's life, as ``kill -9`` would have it.

``DEATH_AT``: ``module:Class.method``; ``DEATH_WHEN``: ``before`` or ``after`` it is called;
``DEATH_IF``: arguments that the call must have, as JSON; without them its first call is meant.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import os
import signal
import sys
from typing import Any

#: What stands in the log of a worker that died where it was to.
LAST_WORDS = "dies here:"


def install() -> None:
    """Replace the method that the environment names."""
    place, when = os.environ["DEATH_AT"], os.environ["DEATH_WHEN"]
    wanted = json.loads(os.environ.get("DEATH_IF", "{}"))
    module_name, _, path = place.partition(":")
    owner: Any = importlib.import_module(module_name)
    *owners, name = path.split(".")
    for one in owners:
        owner = getattr(owner, one)
    method = getattr(owner, name)

    def is_it(given: dict[str, Any]) -> bool:
        return all(given.get(key) == value for key, value in wanted.items())

    def die() -> None:
        sys.stderr.write(f"{LAST_WORDS} {when} {path}\n")
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    @functools.wraps(method)
    def dying(*args: Any, **kwargs: Any) -> Any:
        if when == "before" and is_it(kwargs):
            die()
        found = method(*args, **kwargs)
        if is_it(kwargs):
            die()
        return found

    @functools.wraps(method)
    async def dying_later(*args: Any, **kwargs: Any) -> Any:
        if when == "before" and is_it(kwargs):
            die()
        found = await method(*args, **kwargs)
        if is_it(kwargs):
            die()
        return found

    setattr(owner, name, dying_later if inspect.iscoroutinefunction(method) else dying)
