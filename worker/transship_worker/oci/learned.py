"""What the answers of a registry showed about it, kept by its client for later requests."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from typing import Final

#: What a HEAD can be answered with that says nothing of what is there.
HEAD_REFUSED: Final = frozenset({400, 403, 405, 406, 410, 501})
#: Of these: the registry, or a proxy before it, does not know the method.
HEAD_UNSUPPORTED: Final = frozenset({405, 501})
#: Contradictions after which HEAD is not used, although it was answered before: a manifest may
#: arrive between HEAD and GET.
CONTRADICTIONS: Final = 3
#: HEAD is tried again after this time: registries are updated. Unit: s.
RETRY_S: Final = 3_600.0


@dataclass(slots=True)
class HeadSupport:
    """Whether HEAD requests of one kind tell anything at a registry.

    Nexus answers HEAD of manifests with 404, and proxies refuse the method, while GET works.
    """

    #: HEAD was answered as it should be.
    works: bool = False
    #: HEAD said of something that it is not there. What never did may say yes to everything.
    says_no: bool = False
    #: One asks whether it can.
    asking: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)
    _contradictions: int = 0
    _useless_until: float = 0.0

    @property
    def useless(self) -> bool:
        """Whether HEAD need not be tried now."""
        return time.monotonic() < self._useless_until

    def answered(self) -> None:
        """Remember that HEAD found something."""
        self.works, self._contradictions = True, 0

    def contradicted(self) -> None:
        """Remember that HEAD did not find what is there."""
        self._contradictions += 1
        if not self.works or self._contradictions >= CONTRADICTIONS:
            self.unsupported()

    def unsupported(self) -> None:
        """Remember that the registry does not know HEAD here."""
        self.works, self._useless_until = False, time.monotonic() + RETRY_S


@dataclass(slots=True)
class Sampling:
    """Which of many things are checked: the first ones, then by chance, all again after a bad one.

    A registry that loses each is caught by the first, one that loses some after a while.
    """

    #: How many are checked at first, and after a bad one.
    first: int
    #: Then one of so many.
    one_in: int
    _left: int = field(init=False)

    def __post_init__(self) -> None:
        self._left = self.first

    def takes(self) -> bool:
        """Whether the next one is to be checked."""
        if self._left > 0:
            self._left -= 1
            return True
        return secrets.randbelow(self.one_in) == 0

    def bad(self) -> None:
        """Remember that one was not what it should be."""
        self._left = self.first


@dataclass(slots=True)
class Learned:
    """What one client learned about its registry."""

    #: Lists whose pages the registry linked, by their key: ``tags``, ``repositories``.
    linked_lists: set[str] = field(default_factory=set)
    manifest_heads: HeadSupport = field(default_factory=HeadSupport)
    blob_heads: HeadSupport = field(default_factory=HeadSupport)
    #: Blobs that were uploaded, and are read once their manifest was accepted.
    uploads: Sampling = field(default_factory=lambda: Sampling(8, 64))
    #: Images that are said to be at a target, of which the manifest and some blobs are read.
    images: Sampling = field(default_factory=lambda: Sampling(2, 128))
    #: Manifests that a planner is told to be at a target, and reads.
    planned: Sampling = field(default_factory=lambda: Sampling(4, 256))
    #: A blob was there after a mount that was answered by 201.
    mounts: bool = False
    #: One looks whether that is so.
    looking: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)
    #: A manifest was listed as a referrer after the registry said so (``OCI-Subject``).
    lists_referrers: bool = False
    #: GET was refused where HEAD was: a refused HEAD needs no GET any more.
    refusals_agree: bool = False
