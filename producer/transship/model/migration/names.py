"""Repositories and tags of a rule: which are meant, and what they are called at the target."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, Literal

from transship.errors import InvalidReference
from transship.model.migration.automaton import ANY, Automaton, Program, char, optional, star
from transship.model.migration.automaton import literal as exactly
from transship.model.migration.mistakes import shown
from transship.model.references import NAME_LENGTH, ImageReference
from transship_config.text import did_you_mean

#: Stands for the host, which is not known here: the shortest there can be.
_HOST: Final = "a.b"
#: Characters of a repository, of a pattern and of a template.
LONGEST: Final = NAME_LENGTH - len(_HOST) - 1
_TAG_LENGTH: Final = 128

_SEGMENT_CHARACTERS: Final = ANY & ~(1 << ord("/"))
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_GRAMMAR: Final = (
    "its segments are lower-case letters and digits, joined by '.', '_', '__' or '-', with single "
    "slashes between them, and without host and tag"
)


def is_repository(text: str) -> bool:
    """Whether a registry can have a repository of this name."""
    # What is remembered is bounded in number and in length.
    return len(text) <= LONGEST and _is_repository(text)


@lru_cache(maxsize=1024)
def _is_repository(text: str) -> bool:
    try:
        found = ImageReference.parse(f"{_HOST}/{text}")
    except InvalidReference:
        return False
    return found.repository == text


def is_tag(text: str) -> bool:
    """Whether an image can have this tag."""
    return len(text) <= _TAG_LENGTH and _is_tag(text)


@lru_cache(maxsize=1024)
def _is_tag(text: str) -> bool:
    try:
        found = ImageReference.parse(f"{_HOST}/a:{text}")
    except InvalidReference:
        return False
    return found.tag == text


def repository_problem(text: str) -> str:
    """Why a text is no repository, in one line."""
    if len(text) > LONGEST:
        return f"{shown(text)} has {len(text)} characters; a repository has at most {LONGEST}"
    hint = f"; write {text.lower()!r}" if is_repository(text.lower()) else ""
    return f"{shown(text)} is no repository; {_GRAMMAR}{hint}"


def tag_problem(text: str) -> str:
    """Why a text is no tag, in one line."""
    return (
        f"{shown(text)} is no tag; a tag is up to {_TAG_LENGTH} letters, digits, '_', '.' and '-', "
        "and starts with none of the last two"
    )


class RepositoryPattern:
    """Repositories of a registry: one name, or all that fit a pattern, from end to end.

    ``*`` stands for any characters of one path segment, ``**`` for any characters and slashes,
    and ``**/`` at the start of a segment for any number of whole segments, also none. All
    other characters stand for themselves; no repository holds one that would have to be
    escaped. Matching takes linear time.
    """

    __slots__ = ("_automaton", "text")

    def __init__(self, text: str) -> None:
        self.text: Final = text
        self._automaton: Automaton | None = None

    @classmethod
    def parse(cls, text: str) -> RepositoryPattern:
        """Read a name or a pattern.

        Raises:
            ValueError: no repository can fit it.
        """
        if "***" in text:
            raise ValueError(f"{shown(text)}: write '*' within a segment or '**' across them")
        # What stands between two stars is fixed. A letter never makes a name worse, and a star
        # is at least as long as it: if this name is not valid, no name that fits is.
        filled = text.replace("**", "a").replace("*", "a")
        if len(text) <= LONGEST and is_repository(filled):
            return cls(text)
        strange = sorted({c for c in text if c in "?[]{}\\"})
        if strange:
            raise ValueError(
                f"{shown(text)}: {' '.join(strange)} cannot be used; a pattern has '*' and '**'"
            )
        if filled == text or len(text) > LONGEST:
            raise ValueError(repository_problem(text))
        hint = f"; write {text.lower()!r}" if is_repository(filled.lower()) else ""
        raise ValueError(f"{shown(text)} fits no repository; {_GRAMMAR}{hint}")

    @property
    def needs_catalogue(self) -> bool:
        """Whether the registry must be asked which repositories it has."""
        return "*" in self.text

    @property
    def program(self) -> Program:
        """What fits the pattern, as a part of a larger program."""
        return _program(self.text)

    @property
    def last_segment(self) -> Program:
        """What the last segment of a repository that fits can be, or more than that."""
        last = self.text.rpartition("/")[2]
        return _program("*" if "**" in last else last)

    def matches(self, repository: str) -> bool:
        """Whether a repository, as the registry names it, is meant."""
        if not self.needs_catalogue:
            return repository == self.text
        if not repository.startswith(self.text[: self.text.index("*")].removesuffix("/")):
            return False
        if self._automaton is None:
            self._automaton = Automaton(self.program, anywhere=False)
        return self._automaton.matches(repository)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"RepositoryPattern({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RepositoryPattern) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


def _program(pattern: str) -> Program:
    program: Program = ()
    at = 0
    while at < len(pattern):
        if pattern.startswith("**/", at) and (at == 0 or pattern[at - 1] == "/"):
            program += optional(star(char(ANY)) + exactly("/"))
            at += 3
        elif pattern.startswith("**", at):
            program += star(char(ANY))
            at += 2
        elif pattern[at] == "*":
            program += star(char(_SEGMENT_CHARACTERS))
            at += 1
        else:
            program += exactly(pattern[at])
            at += 1
    return program


class Template:
    """What a repository or a tag is called at the target.

    ======================= ============================================ =====================
    placeholder             stands for                                   in
    ======================= ============================================ =====================
    ``{repository}``        the source repository, as the source has it  repositories
    ``{name}``              its last segment                             repositories and tags
    ``{tag}``               the source tag                               tags
    ======================= ============================================ =====================
    """

    __slots__ = ("_kind", "text")

    _PLACEHOLDERS: Final = {"repository": ("repository", "name"), "tag": ("tag", "name")}

    def __init__(self, text: str, kind: Literal["repository", "tag"]) -> None:
        self.text: Final = text
        self._kind: Final = kind

    @classmethod
    def parse(cls, text: str, kind: Literal["repository", "tag"]) -> Template:
        """Read the template of a repository or of a tag.

        Raises:
            ValueError: an unknown placeholder, or no name can come of it.
        """
        known = cls._PLACEHOLDERS[kind]
        if len(text) > LONGEST:
            raise ValueError(f"a template of {len(text)} characters; at most {LONGEST} are allowed")
        for name in _PLACEHOLDER.findall(text):
            if name not in known:
                written = shown(name[:40])[1:-1]
                raise ValueError(f"{{{written}}} is no placeholder here;{_known(name, known)}")
        if "{" in (rest := _PLACEHOLDER.sub("", text)) or "}" in rest:
            raise ValueError(f"{shown(text)} has a single brace; write{_known('', known)[7:]}")
        # Names and tags start and end with what may stand beside a letter: if this one is not
        # valid, none is.
        template = cls(text, kind)
        template.fill("a", "a")
        return template

    def fill(self, repository: str, tag: str) -> str:
        """The target's name for a source's.

        Raises:
            ValueError: what comes of it is no repository or no tag.
        """
        values = {"repository": repository, "name": repository.rpartition("/")[2], "tag": tag}
        result = _PLACEHOLDER.sub(lambda found: values[found[1]], self.text)
        if self._kind == "repository":
            if not is_repository(result):
                raise ValueError(repository_problem(result))
        elif not is_tag(result):
            raise ValueError(tag_problem(result))
        return result

    def results(self, pattern: RepositoryPattern) -> Automaton:
        """The names that can come of the repositories of a pattern, or more than those."""
        program: Program = ()
        # With its one group, split() puts the placeholders' names at the odd places.
        for place, part in enumerate(_PLACEHOLDER.split(self.text)):
            if place % 2 == 0:
                program += exactly(part)
            else:
                program += pattern.program if part == "repository" else pattern.last_segment
        return Automaton(program, anywhere=False)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Template({self.text!r}, {self._kind!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Template) and (other.text, other._kind) == (self.text, self._kind)

    def __hash__(self) -> int:
        return hash((self.text, self._kind))


def _known(name: str, known: tuple[str, ...]) -> str:
    return did_you_mean(f"{{{name[:40]}}}", [f"{{{one}}}" for one in known])
