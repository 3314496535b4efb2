"""The memory of manifests: one budget of the process, of which each copy has a share.

Most images have a few kilobytes of manifests. A copy that needs more than a small share waits for
the large one, which one copy holds at a time: a registry chooses the size of what is read there,
and must not take the memory of all copies at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    nullcontext,
)
from contextvars import ContextVar
from typing import Any, Final, Self

from transship.errors import RegistryUnavailable
from transship_worker.oci.descriptors import Manifest

#: What a copy may hold without waiting. Unit: bytes.
SMALL: Final = 1024 * 1024
#: What the owner of the large share may hold: more than the bytes and entries of one copy may be
#: (``copy.tree``). Unit: bytes.
LARGE: Final = 48 * 1024 * 1024
#: A descriptor with its texts. Unit: bytes.
_ENTRY: Final = 640


class ManifestMemory:
    """The large share of one process. Not to be used outside its event loop."""

    def __init__(self) -> None:
        self._is_held = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take_now(self) -> bool:
        """Take the large share if nobody holds it; whether that was so."""
        if self._is_held:
            return False
        self._is_held = True
        return True

    async def take(self) -> None:
        """Wait for the large share; whoever asked first gets it first."""
        if self.take_now():
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                # It was given just now, to nobody.
                self.give_back()
            raise

    def give_back(self) -> None:
        """Let the next one have it."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._is_held = False


class Share:
    """What one copy, or one look, holds of manifests."""

    def __init__(
        self,
        memory: ManifestMemory,
        waiting: Callable[[], AbstractAsyncContextManager[Any]] = nullcontext,
    ) -> None:
        """``waiting``: around the wait for the large share."""
        self._memory = memory
        self._waiting = waiting
        #: Whether it holds the large share.
        self.is_large = False
        self._turn = asyncio.Lock()
        #: Bytes that are held, objects included. Unit: bytes.
        self.used = 0
        #: Others may wait for this copy: it may not wait for them any more.
        self.may_wait = True

    def take(self, size: int) -> bool:
        """Count bytes more as held; whether there is room for them. Unit: bytes."""
        self.used += size
        if self.used > SMALL and not self.is_large:
            self.is_large = self._memory.take_now()
        return self.used <= (LARGE if self.is_large else SMALL)

    async def make_room(self, size: int) -> None:
        """Have room for so many bytes more. Unit: bytes.

        Raises:
            RegistryUnavailable: it would have to wait, and may not.
        """
        if self.used + size > SMALL:
            await self.enlarge()

    async def enlarge(self) -> None:
        """Take the large share; to be held to the end.

        Raises:
            RegistryUnavailable: it would have to wait, and may not.
        """
        async with self._turn:
            if self.is_large or self._memory.take_now():
                self.is_large = True
                return
            if not self.may_wait:
                raise RegistryUnavailable(
                    "another copy of this worker holds the memory for large manifests"
                )
            async with self._waiting():
                await self._memory.take()
                self.is_large = True

    def incoming(self) -> Incoming:
        """``take`` for a body while a block reads it; its bytes are not counted any more then."""
        return Incoming(self)

    def close(self) -> None:
        """Give all back."""
        if self.is_large:
            self.is_large = False
            self._memory.give_back()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Incoming:
    """The bytes of a body that a block reads. One is made for each manifest."""

    __slots__ = ("_share", "_size")

    def __init__(self, share: Share) -> None:
        self._share = share
        self._size = 0

    def __enter__(self) -> Callable[[int], bool]:
        return self._take

    def __exit__(self, *_: object) -> None:
        self._share.used -= self._size

    def _take(self, size: int) -> bool:
        self._size += size
        return self._share.take(size)


#: Of the copy that runs here; ``None``: each manifest is read for itself.
_SHARE: ContextVar[Share | None] = ContextVar("share", default=None)


def current_share() -> Share | None:
    """The share of the copy that runs here."""
    return _SHARE.get()


@asynccontextmanager
async def sharing(
    memory: ManifestMemory,
    waiting: Callable[[], AbstractAsyncContextManager[Any]] = nullcontext,
) -> AsyncIterator[Share]:
    """Count all manifests that a block and its tasks read as one share, held to its end."""
    with Share(memory, waiting) as share:
        token = _SHARE.set(share)
        try:
            yield share
        finally:
            _SHARE.reset(token)


def reading(memory: ManifestMemory) -> AbstractContextManager[Share]:
    """The share of the copy that runs here, or one for a single manifest."""
    share = _SHARE.get()
    return Share(memory) if share is None else nullcontext(share)


def cost_of(manifest: Manifest) -> int:
    """About what a manifest takes in memory. Unit: bytes."""
    named = len(manifest.layers) + len(manifest.children) + 2
    return len(manifest.raw) + named * _ENTRY
