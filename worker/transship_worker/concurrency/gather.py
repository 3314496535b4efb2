"""Work side by side: the first failure cancels the rest and is raised as it is, in no group."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")
U = TypeVar("U")


async def together(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of all, in their order."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
    except BaseExceptionGroup as failed:
        error = first_of(failed)
    else:
        return [task.result() for task in tasks]
    # Not from the group: an error's cause is the answer that led to it.
    raise error


async def both(first: Coroutine[Any, Any, T], second: Coroutine[Any, Any, U]) -> tuple[T, U]:
    """The results of two; where one fails, the other is cancelled."""
    one, other = asyncio.create_task(first), asyncio.create_task(second)
    try:
        await asyncio.gather(one, other)
    except BaseException:
        one.cancel()
        other.cancel()
        await asyncio.gather(one, other, return_exceptions=True)
        raise
    return one.result(), other.result()


def first_of(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group, however deep it lies."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
