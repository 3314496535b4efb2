"""When a streamed push is worth its price: the engine exports all, however little is new.

Measured on two cores: the engine pushes new layers at some 40 MB/s, and writes and gives out an
export at some 140 MB/s, which the compression here keeps up with.
"""

from __future__ import annotations

import os
from typing import Final

from transship_worker.transports.stream.compression import is_fast

#: With less to be sent the engine's own push is as fast. Unit: bytes.
LEAST: Final = 64 * 1024 * 1024
#: The part of an image that must be new: below, the export costs more than it saves.
NEW_LEAST: Final = 0.4
#: The part of an image that must have been streamed here before. The engine does not know those
#: blobs, so that its own push would send all of them again.
STREAMED_LEAST: Final = 0.4


class Fallback(Exception):
    """The image cannot be streamed; nothing was tagged, and the engine may push it."""


def is_possible(size: int) -> bool:
    """Whether it can be faster at all, for an image of this size. Unit: bytes."""
    return size >= LEAST and is_fast() and (os.cpu_count() or 1) > 1


def begins(size: int, streamed: int) -> bool:
    """Whether to stream at once, where so much of an image was streamed before. Unit: bytes."""
    return streamed >= STREAMED_LEAST * size


def pays(size: int, new: int, sent: int) -> bool:
    """Whether to change over while the engine pushes.

    Args:
        size: of the image. Unit: bytes.
        new: of the layers that the engine is known to be sending. Unit: bytes.
        sent: what it has sent of them. Unit: bytes.
    """
    return new >= NEW_LEAST * size and new - sent >= LEAST
