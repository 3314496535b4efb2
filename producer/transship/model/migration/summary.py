"""What a plan comes to, and what contradicts itself in it, found while its rows go by."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from transship.model.migration.mistakes import Mistake
from transship.model.migration.plan import Action, PlanRow

#: Blobs that are told apart in the sum of bytes; about 100 bytes of memory each.
MOST_BLOBS: Final = 500_000
#: How long Docker Hub counts pulls together (https://docs.docker.com/docker-hub/usage/pulls/).
HUB_WINDOW_S: Final = 6 * 3600

_Natural = Annotated[int, Field(ge=0)]


class PlanSummary(BaseModel):
    """The end of a plan."""

    # A newer worker may say more of it.
    model_config = ConfigDict(frozen=True, extra="ignore")

    rows: _Natural = 0
    copy_rows: _Natural = 0
    tag_rows: _Natural = 0
    skip_rows: _Natural = 0
    conflict_rows: _Natural = 0
    #: At most: a blob that several images share counts once for each target registry (after half
    #: a million of them, for each image), also where the registry has it already; ``None``: not
    #: known, as a specification that is run is not weighed first. Unit: bytes.
    bytes_to_move: _Natural | None = None
    #: ``component/repository`` of each repository that the targets do not have yet, sorted.
    repositories_to_create: tuple[str, ...] = ()
    hub_pulls: _Natural = 0
    #: Windows of six hours that the pulls need; ``None``: the limit is not known, or there is none.
    hub_windows: _Natural | None = None
    #: Repositories and images that could not be planned; none of them has a row.
    failures: _Natural = 0


class PlanTally:
    """Adds up a plan row by row; it remembers repositories to be created and blobs only."""

    def __init__(self) -> None:
        self._rows = dict.fromkeys(Action, 0)
        self._failures = 0
        self._blobs: set[int] = set()
        self._bytes = 0
        self._pulls = 0
        self._creates: set[str] = set()

    def add(self, row: PlanRow) -> None:
        """Count one more row. Only what is copied moves bytes, pulls and creates."""
        self._rows[row.action] += 1
        if row.action is Action.COPY:
            self._bytes += row.bytes
            self._pulls += row.hub_pulls
            if row.creates:
                self._creates.add(f"{row.target.registry}/{row.target.repository}")

    def share(self, registry: str, blobs: Iterable[tuple[str, int]]) -> None:
        """Take off what a registry gets for another image of the plan already.

        ``blobs``: digest and size of each blob of an image whose row is added, each once.
        """
        for digest, size in blobs:
            name = f"{registry}@{digest}".encode()
            blob = int.from_bytes(hashlib.blake2b(name, digest_size=12).digest())
            if blob in self._blobs:
                self._bytes -= size
            elif len(self._blobs) < MOST_BLOBS:
                self._blobs.add(blob)

    def fail(self) -> None:
        """Count one more repository or image that could not be planned."""
        self._failures += 1

    def summary(self, *, hub_limit: int | None = None, weighed: bool = True) -> PlanSummary:
        """What the rows come to.

        ``hub_limit``: Docker Hub's pulls in six hours, if it has one. ``weighed``: whether the rows
        say how large their images are.
        """
        return PlanSummary(
            rows=sum(self._rows.values()),
            copy_rows=self._rows[Action.COPY],
            tag_rows=self._rows[Action.TAG],
            skip_rows=self._rows[Action.SKIP],
            conflict_rows=self._rows[Action.CONFLICT],
            bytes_to_move=self._bytes if weighed else None,
            repositories_to_create=tuple(sorted(self._creates)),
            hub_pulls=self._pulls,
            hub_windows=-(-self._pulls // hub_limit) if hub_limit else None,
            failures=self._failures,
        )


@dataclass(frozen=True, slots=True)
class Collision:
    """Two images that are to have one tag of one target repository."""

    #: ``component/repository:tag``
    target: str
    #: Indexes of the two rules; they may be one.
    first_rule: int
    second_rule: int
    #: Sources, as far as they are known still: the first one's digest, shortened, and the second.
    first: str
    second: str

    @property
    def mistake(self) -> Mistake:
        """The collision as one line, at the second rule."""
        other = (
            f"rules[{self.first_rule}]"
            if self.first_rule != self.second_rule
            else "the same rule for another image"
        )
        text = (
            f"aims {self.second} at {self.target}, where {other} puts {self.first}; "
            "give one of them another repository or tag"
        )
        return Mistake(("rules", self.second_rule, "to"), text)


class Collisions:
    """Finds rows that aim at one tag of one repository with different images.

    It remembers about 200 bytes for each target tag, however long its name is. A row without a
    source digest changes nothing at the target, and contradicts nothing.
    """

    def __init__(self) -> None:
        self._seen: dict[bytes, tuple[int, bytes]] = {}

    def add(self, row: PlanRow, repository: str = "") -> list[Collision]:
        """Look at one more row; what it contradicts, one entry a tag.

        ``repository`` is the target repository where its component's name does not tell it from
        others: two components can have one URI.
        """
        if not row.source.digest:
            return []
        image = _image(row)
        repository = repository or f"{row.target.registry}/{row.target.repository}"
        found = []
        for tag in sorted(row.tags):
            target = f"{repository}:{tag}"
            key = hashlib.blake2b(target.encode(), digest_size=16).digest()
            rule, first = self._seen.setdefault(key, (row.rule, image))
            if first == image:
                continue
            source = f"{row.source.registry}/{row.source.repository}@{row.source.digest}"
            found.append(Collision(target, rule, row.rule, _named(first), source))
        return found


def _image(row: PlanRow) -> bytes:
    """What arrives at the target: the digest, and the platforms that are taken of it."""
    platforms = ",".join(sorted({str(platform) for platform in row.platforms}))
    algorithm, _, value = row.source.digest.partition(":")
    rest = hashlib.blake2b(f"{value} {platforms}".encode(), digest_size=16).digest()
    # The first hexadecimal digits are kept readable for the message.
    return f"{algorithm[:8]}:{value[:12]}".encode() + b"\0" + rest


def _named(image: bytes) -> str:
    return image.partition(b"\0")[0].decode() + "…"
