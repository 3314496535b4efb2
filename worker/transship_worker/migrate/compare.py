"""One repository of a source beside one of a target: what is there, and what is to be done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, TypeVar

from transship.errors import RepositoryMissing
from transship.model.migration.mistakes import SpecError
from transship.model.migration.specification import OnConflict, Rule, Spec
from transship_config.errors import TransshipError
from transship_worker.concurrency.gather import both
from transship_worker.concurrency.semaphore import PrioritySemaphore
from transship_worker.migrate.expand import Failure, Pair
from transship_worker.migrate.port import Memory, Side
from transship_worker.migrate.referrers import Place, new_referrers
from transship_worker.migrate.sizes import SideReader, Size, Sizer
from transship_worker.oci.descriptors import (
    DOCKER_MANIFEST,
    MANIFEST_TYPES,
    OCI_ARTIFACT,
    OCI_MANIFEST,
)
from transship_worker.oci.manifests import ManifestHead
from transship_worker.transports.copy.platforms import for_platforms

T = TypeVar("T")

#: What is no list of platforms. Anything else may be one: some registries do not say what
#: something is, or call it ``text/plain``.
_NO_INDEX: Final = frozenset({OCI_MANIFEST, DOCKER_MANIFEST, OCI_ARTIFACT})
#: Images of one repository whose manifests are read at once.
_AT_ONCE: Final = 32
#: Names that a message lists.
_NAMED: Final = 5
_KNOWN: Final = {kind: kind for kind in MANIFEST_TYPES}


class Standing(Enum):
    """How a tag of the target stands to the image that it is to be."""

    EQUAL = "equal"
    #: The target does not have the tag.
    ABSENT = "absent"
    #: The target has it with another digest, which is overwritten.
    OTHER = "other"
    #: The same, and it is left alone.
    LEFT = "left"
    #: The same, and that is a mistake.
    CONFLICT = "conflict"


_BY_RULE: Final = {
    OnConflict.OVERWRITE: Standing.OTHER,
    OnConflict.SKIP: Standing.LEFT,
    OnConflict.FAIL: Standing.CONFLICT,
}


@dataclass(slots=True)
class Image:
    """One digest of the source repository, with its tags."""

    digest: str
    media_type: str
    #: What the target is to have: another digest where only some platforms are taken.
    wanted: str = ""
    #: Whether the target repository holds it; not known where all tags are equal, or left.
    present: bool = False
    #: Standing, tag at the target, tag at the source.
    tags: list[tuple[Standing, str, str]] = field(default_factory=list)
    #: Of what is to be copied, where sizes were asked for.
    size: Size | None = None
    #: What refers to it at the source, and is not at the target, where a rule takes referrers along
    #: and all tags are right.
    new_referrers: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Compared:
    """What a comparison found."""

    pair: Pair
    images: list[Image] = field(default_factory=list)
    #: Immutable tags that the target has, by the target's name.
    unasked: dict[str, str] = field(default_factory=dict)
    #: The target does not have the repository.
    creates: bool = False
    #: A catalogue named the repository, and it has nothing.
    gone: bool = False
    failures: list[Failure] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Reader:
    """What all comparisons of a plan share."""

    spec: Spec
    gate: PrioritySemaphore
    memory: Memory
    sizer: Sizer
    #: Whether the sizes of what is to be copied are read.
    sizes: bool


class Comparison:
    """Compares one pair of repositories. Made for one use.

    ``order``: what was begun first is asked first.
    """

    def __init__(
        self, reader: Reader, pair: Pair, source: Side, target: Side, *, order: int
    ) -> None:
        self._reader = reader
        self._pair = pair
        self._rule: Rule = reader.spec.rules[pair.rule]
        self._platforms = ",".join(sorted({str(one) for one in self._rule.platforms}))
        self._source, self._target = source, target
        self._order = order
        self._found = Compared(pair)
        #: Tag at the target, at the source, and whether the target has it.
        self._asked: list[tuple[str, str, bool]] = []
        #: Immutable tags that the target lists, by the target's name.
        self._settled: dict[str, str] = {}
        self._seen: list[tuple[Standing, ManifestHead] | None] = []
        #: By source digest: what it is at the target; by that: whether the target has it.
        self._subsets: dict[str, asyncio.Future[str]] = {}
        self._presences: dict[str, asyncio.Future[bool]] = {}
        self._failed: dict[type[TransshipError], tuple[TransshipError, list[str]]] = {}
        self._vanished: list[str] = []
        self._left: list[str] = []
        #: All tags that each side lists.
        self._listed: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())

    async def run(self) -> Compared:
        """Compare, with many requests at once.

        Raises:
            TransshipError: a registry failed in a way that may pass. Other errors are among
                what is found.
        """
        try:
            await self._list()
            await self._reader.gate.each(self._order, list(self._settled), self._look_settled)
            self._seen = [None] * len(self._asked)
            await self._reader.gate.each(self._order, range(len(self._asked)), self._look)
            self._gather()
            if self._rule.referrers:
                await self._compare_referrers()
            if self._reader.sizes:
                await self._measure()
        except TransshipError as error:
            self._fail(error)
        if self._vanished:
            self._warn(f"{listed(self._vanished)}: listed, but nothing is there; left out")
        if self._left:
            self._warn(f"{listed(self._left)}: another image at the target, which stays")
        self._found.failures += (
            Failure(self._pair.rule, self._pair.source, error, tuple(tags))
            for error, tags in self._failed.values()
        )
        return self._found

    async def _list(self) -> None:
        """Read the tags of both sides, and find those that are to be asked for."""
        pair, found = self._pair, self._found
        async with self._reader.gate.place(self._order):
            names, there = await both(
                self._source.tags(pair.source, self._warn),
                # What is not seen there is looked up again before it is copied.
                self._target.tags(pair.target, lambda _: None),
            )
        if names is None and pair.explicit:
            raise RepositoryMissing(
                f"{self._source.name} has no repository {pair.source}; correct its name in the "
                "rule, or leave it out"
            )
        found.gone = not names and not pair.explicit
        found.creates = there is None
        chosen = self._rule.tags.choose(names or ())
        if not chosen and pair.explicit:
            self._warn("no tag of it is taken")
        self._listed = (frozenset(names or ()), frozenset(there or ()))
        self._split(chosen, self._listed[1])

    def _split(self, chosen: list[str], there: frozenset[str]) -> None:
        for tag in chosen:
            try:
                name = self._reader.spec.target_tag(self._pair.rule, self._pair.source, tag)
            except SpecError as error:
                self._fail(error, tag)
                continue
            immutable = name in there and self._rule.is_immutable(tag)
            # What refers to an image may come later, also where its tag never moves.
            if immutable and not self._rule.referrers:
                self._settled[name] = tag
            else:
                self._asked.append((name, tag, name in there))

    async def _look_settled(self, name: str) -> None:
        """See whether the target has an immutable tag that it lists: a list may be stale."""
        tag = self._settled[name]
        try:
            found = await self._target.head(self._pair.target, name)
        except TransshipError as error:
            self._fail(error, tag)
            return
        if found is not None and found.complete:
            self._found.unasked[name] = tag
        else:
            self._asked.append((name, tag, False))

    async def _look(self, place: int) -> None:
        """See how one tag stands; a failure is that tag's alone, unless it may pass."""
        name, tag, listed = self._asked[place]
        try:
            self._seen[place] = await self._standing(name, tag, listed=listed)
        except TransshipError as error:
            self._fail(error, tag)

    async def _standing(
        self, name: str, tag: str, *, listed: bool
    ) -> tuple[Standing, ManifestHead] | None:
        there = None
        # Into a new repository all of it will be copied.
        ask = self._source.look if self._found.creates else self._source.head
        asking = ask(self._pair.source, tag)
        if listed:
            there, found = await both(self._target.head(self._pair.target, name), asking)
        else:
            found = await asking
        if found is None:
            self._vanished.append(tag)
            return None
        wanted = await self._wanted(found)
        if there is not None and there.is_whole(wanted):
            return Standing.EQUAL, found
        if there is not None and there.digest == wanted:
            # What is missing or damaged of it is copied again, whatever its tag's rules are.
            there = None
        if there is not None and self._rule.is_immutable(tag):
            # Asked for its referrers alone: the tag itself stays what it is.
            self._found.unasked[name] = tag
            self._left.append(name)
            return None
        standing = Standing.ABSENT if there is None else _BY_RULE[self._rule.on_conflict]
        if standing is Standing.LEFT:
            self._left.append(name)
        if standing not in {Standing.ABSENT, Standing.OTHER}:
            return standing, found
        if self._platforms and not self._source.is_hub:
            # What is no index must be for the platforms, too. On Docker Hub the copy finds out:
            # a read counts as a pull there.
            await _once(self._subsets, found.digest, lambda: self._filtered(found.digest))
        if not self._found.creates:
            await _once(self._presences, wanted, lambda: self._is_present(wanted))
        return standing, found

    async def _wanted(self, found: ManifestHead) -> str:
        """The digest that the target is to have."""
        if not self._platforms or found.media_type in _NO_INDEX:
            return found.digest
        return await _once(self._subsets, found.digest, lambda: self._filtered(found.digest))

    async def _filtered(self, digest: str) -> str:
        memory = self._reader.memory
        known = await memory.subset(digest, self._platforms)
        if known is not None:
            return known
        source, repository = self._source, self._pair.source
        manifest = await self._reader.sizer.read_at_once(source, repository, digest)
        what = f"{source.name}/{repository}@{digest}"
        reader = SideReader(source, repository)
        filtered = (await for_platforms(manifest, self._rule.platforms, what, reader)).digest
        await memory.remember(digest, self._platforms, filtered)
        return filtered

    async def _is_present(self, digest: str) -> bool:
        head = await self._target.head(self._pair.target, digest)
        return head is not None and head.complete

    def _gather(self) -> None:
        """Put the tags of one digest together, in the order in which they were chosen."""
        images: dict[str, Image] = {}
        for (name, tag, _), seen in zip(self._asked, self._seen, strict=True):
            if seen is None:
                continue
            standing, head = seen
            image = images.get(head.digest)
            if image is None:
                # What a registry calls it goes into a plan only where it is a known name.
                image = Image(head.digest, _KNOWN.get(head.media_type, ""))
                images[head.digest] = image
                image.wanted = _result(self._subsets, head.digest) or head.digest
                image.present = _result(self._presences, image.wanted) or False
            image.tags.append((standing, name, tag))
        self._found.images = list(images.values())
        self._asked, self._seen = [], []
        self._subsets, self._presences = {}, {}

    async def _compare_referrers(self) -> None:
        """Compare what refers to images that need nothing else."""
        equal = [image for image in self._found.images if _is_equal(image)]
        source = Place(self._source, self._pair.source, self._listed[0])
        target = Place(self._target, self._pair.target, self._listed[1])

        async def compare(image: Image) -> None:
            try:
                image.new_referrers = await new_referrers(
                    source,
                    target,
                    image.wanted,
                    self._rule.on_conflict,
                    self._left.append,
                    is_index=image.media_type not in _NO_INDEX,
                )
            except TransshipError as error:
                self._fail(error, *(tag for _, _, tag in image.tags))

        await self._reader.gate.each(self._order, equal, compare)

    async def _measure(self) -> None:
        """Read the sizes of what the target does not have."""
        images = self._found.images
        # Each reads in places of the common gate: this one only bounds the tasks.
        own = PrioritySemaphore(_AT_ONCE)
        missing = [image for image in images if not image.present and _is_written(image)]
        failed: set[str] = set()

        async def measure(image: Image) -> None:
            try:
                image.size = await self._reader.sizer.measure(
                    self._source,
                    self._pair.source,
                    image.digest,
                    # What is no index was read for them before, but on Docker Hub.
                    self._rule.platforms
                    if image.media_type not in _NO_INDEX or self._source.is_hub
                    else (),
                    self._order,
                )
            except TransshipError as error:
                self._fail(error, *(tag for _, _, tag in image.tags))
                failed.add(image.digest)

        await own.each(0, missing, measure)
        self._found.images = [image for image in images if image.digest not in failed]

    def _warn(self, text: str) -> None:
        name = f"{self._source.name}/{self._pair.source}"
        self._found.warnings.append(f"rules[{self._pair.rule}]: {name}: {text}")

    def _fail(self, error: TransshipError, *tags: str) -> None:
        """Keep an error; tags that fail in one way are one failure, with the first's message.

        Raises:
            TransshipError: it may pass; then all is planned again.
        """
        if error.retryable:
            raise error
        if not tags:
            self._found.failures.append(Failure(self._pair.rule, self._pair.source, error))
            return
        self._failed.setdefault(type(error), (error, []))[1].extend(tags)


def listed(names: Sequence[str]) -> str:
    """The first of some names, and how many there are more."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _is_equal(image: Image) -> bool:
    """Whether the target has the image, and nothing of it is to be written."""
    standings = {standing for standing, _, _ in image.tags}
    return Standing.EQUAL in standings and not _is_written(image)


def _is_written(image: Image) -> bool:
    return any(standing in {Standing.ABSENT, Standing.OTHER} for standing, _, _ in image.tags)


async def _once(
    table: dict[str, asyncio.Future[T]], key: str, work: Callable[[], Coroutine[Any, Any, T]]
) -> T:
    """Do some work once for each key, whoever asks first; the others wait for it."""
    found = table.get(key)
    if found is None:
        found = table[key] = asyncio.ensure_future(work())
    return await found


def _result(table: dict[str, asyncio.Future[T]], key: str) -> T | None:
    """What came of a key's work; ``None``: nothing, or it failed."""
    found = table.get(key)
    return found.result() if found is not None and found.exception() is None else None
