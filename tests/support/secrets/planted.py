"""Planted secrets, all the ways in which one may be written, and where they were looked for."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, quote_plus

#: Shorter pieces of a secret are found everywhere by chance. Unit: characters.
SHORTEST = 8


@dataclass(frozen=True)
class Planted:
    """One secret: where it was planted, and for whom."""

    where: str
    value: str
    #: The user that it logs in, if there is one.
    user: str = ""

    def spellings(self) -> set[str]:
        """The secret as programs write it: plain, escaped, in URLs, in base64."""
        plain = {self.value, quote(self.value, safe=""), quote(self.value), quote_plus(self.value)}
        plain |= {json.dumps(self.value)[1:-1], repr(self.value)[1:-1]}
        bare = [self.value] + ([f"{self.user}:{self.value}"] if self.user else [])
        for text in bare:
            raw = text.encode()
            for code in (base64.b64encode(raw), base64.urlsafe_b64encode(raw)):
                plain |= {code.decode(), code.decode().rstrip("=")}
        return plain


class Haystack:
    """All that the system wrote, by where it was found."""

    def __init__(self) -> None:
        self._texts: dict[str, list[str]] = {}

    def add(self, place: str, *texts: str | bytes) -> None:
        """Keep what was written at a place."""
        found = [t.decode("latin-1") if isinstance(t, bytes) else t for t in texts]
        self._texts.setdefault(place, []).extend(found)

    def __getitem__(self, place: str) -> str:
        return "\n".join(self._texts[place])

    @property
    def places(self) -> Mapping[str, int]:
        """How many characters were looked through, by place."""
        return {place: sum(map(len, texts)) for place, texts in self._texts.items()}

    def leaks(self, secrets: Iterable[Planted]) -> list[str]:
        """Each secret that was found: where it was planted, where it came out, and around what."""
        found = []
        for secret in secrets:
            assert len(secret.value) >= SHORTEST, f"{secret.where}: too short to be looked for"
            for spelling in secret.spellings():
                for place, texts in self._texts.items():
                    for text in texts:
                        at = text.find(spelling)
                        if at >= 0:
                            around = text[max(0, at - 90) : at + len(spelling) + 60]
                            found.append(f"{secret.where} in {place}: …{around!r}…")
        return found
