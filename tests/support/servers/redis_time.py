"""How long Redis itself works for each script, whatever else the machine does meanwhile."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from unittest import mock

import redis
from redis.client import Pipeline

_SCRIPTS: Final = frozenset({"EVAL", "EVALSHA", "FCALL"})


@contextmanager
def script_times(observer: redis.Redis) -> Iterator[dict[str, list[float]]]:
    """Measure what this process calls: CPU time of the server's main thread, which runs scripts.

    SLOWLOG has the time on the wall, which also passes while other processes have the processor.
    A pipeline with scripts counts as one call of its first one.

    Args:
        observer: a client of the server that asks for the times.

    Yields:
        The time of each call by the script's hash or the function's name. Unit: ms.
    """
    found: dict[str, list[float]] = defaultdict(list)
    command: Callable[..., Any] = redis.Redis.execute_command
    run: Callable[..., Any] = Pipeline.execute

    def measured(name: object, call: Callable[[], Any]) -> Any:
        before = _used_ms(observer)
        try:
            return call()
        finally:
            found[str(name)].append(_used_ms(observer) - before)

    def execute(client: redis.Redis, *args: Any, **options: Any) -> Any:
        if args[0] not in _SCRIPTS:
            return command(client, *args, **options)
        return measured(args[1], lambda: command(client, *args, **options))

    def execute_all(pipe: Pipeline, *args: Any, **options: Any) -> Any:
        calls = [words for words, _ in pipe.command_stack if words[0] in _SCRIPTS]
        if not calls:
            return run(pipe, *args, **options)
        return measured(calls[0][1], lambda: run(pipe, *args, **options))

    with (
        mock.patch.object(redis.Redis, "execute_command", execute),
        mock.patch.object(Pipeline, "execute", execute_all),
    ):
        yield found


def _used_ms(client: redis.Redis) -> float:
    """CPU time of the main thread so far."""
    told = client.info("cpu")
    used = float(told["used_cpu_user_main_thread"]) + float(told["used_cpu_sys_main_thread"])
    return used * 1000
