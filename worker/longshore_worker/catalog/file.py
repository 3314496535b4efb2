"""The catalogue as a file: where it is, who may write it, and in which line something stands."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import platformdirs
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from longshore_config.errors import CatalogError

#: More than this is no catalogue. Unit: bytes.
LARGEST: Final = 4 * 1024 * 1024
#: A quotation in the parser's words that is no longer than this is no secret.
SHORT_QUOTE: Final = 4

Key = str | int


@dataclass(frozen=True, slots=True)
class Place:
    """Which file is the catalogue."""

    path: Path
    #: Nobody named it: it was found in the user's configuration folder.
    by_default: bool = False

    @classmethod
    def find(cls, explicit: str | Path | None = None) -> Place:
        """The named file, else ``longshore/catalog.yaml`` in the user's configuration folder."""
        if explicit:
            return cls(Path(explicit).expanduser().absolute())
        folder = platformdirs.user_config_path("longshore", appauthor=False)
        return cls(folder / "catalog.yaml", by_default=True)

    @property
    def create_hint(self) -> str:
        """What makes a catalogue that is not there."""
        option = "" if self.by_default else f" --catalog {self.path}"
        return (
            f"there is no catalogue at {self.path}; create it with: longshore registry register "
            f"NAME --flavor default --uri registry.example.com/ml{option}"
        )

    def signature(self) -> tuple[int, ...] | None:
        """Differs when the file was changed or replaced; ``None``: it is not there."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            return (-1, error.errno or 0)
        return (found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode, found.st_uid)

    def read(self) -> str:
        """The file's text.

        Raises:
            FileNotFoundError: it is not there.
            CatalogError: it cannot be read, or others may write it.
        """
        try:
            with self.path.open("rb") as stream:
                if self.by_default:
                    self._check_owner(os.fstat(stream.fileno()), self.path)
                    self._check_owner(self.path.resolve().parent.stat(), self.path.resolve().parent)
                raw = stream.read(LARGEST + 1)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise CatalogError(f"{self.path}: {error.strerror or 'cannot be read'}") from None
        if len(raw) > LARGEST:
            raise CatalogError(f"{self.path} is larger than {LARGEST} bytes")
        try:
            return raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            raise CatalogError(f"{self.path}:{line}: not UTF-8 text") from None

    def _check_owner(self, found: os.stat_result, path: Path) -> None:
        """A catalogue that nobody named may hold code and commands: only its user's counts."""
        if found.st_uid not in {os.geteuid(), 0}:
            raise CatalogError(
                f"{path} belongs to another user; run: chown {os.geteuid()} {path}, or name the "
                "catalogue with --catalog"
            )
        if stat.S_IMODE(found.st_mode) & 0o022:
            raise CatalogError(
                f"{path} can be written by others; run: chmod go-w {path}, or name the catalogue "
                "with --catalog"
            )


@dataclass(order=True, frozen=True, slots=True)
class Mistake:
    """One thing that is wrong with a catalogue."""

    #: Counted from 1.
    line: int
    text: str


@dataclass(slots=True)
class Document:
    """A catalogue's YAML: its values, and the line of each."""

    path: Path
    text: str
    data: Any = None
    root: Node | None = None
    mistakes: list[Mistake] = field(default_factory=list)

    @classmethod
    def parse(cls, path: Path, text: str) -> Document:
        """Read the text; what is wrong with it as YAML stands in ``mistakes``."""
        document = cls(path, text)
        try:
            document.root = YAML(typ="safe", pure=True).compose(text)
            for key, first, again in _duplicates(document.root):
                document.mistakes.append(
                    Mistake(again, f"{key!r} is there twice, first in line {first}; keep one")
                )
            reader = YAML(typ="safe", pure=True)
            # They are reported above, all of them and not only the first.
            reader.allow_duplicate_keys = True
            document.data = reader.load(text)
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark is not None else 1
            document.mistakes.append(Mistake(line, f"not valid YAML: {_problem(error)}"))
        except (YAMLError, ValueError, RecursionError) as error:
            # For example control characters, or a date that does not exist.
            document.mistakes.append(Mistake(1, f"not valid YAML: {type(error).__name__}"))
        return document

    def line(self, *keys: Key) -> int:
        """The line of a key or list item, else that of the nearest thing that holds it."""
        node, line = self.root, self.root.start_mark.line + 1 if self.root is not None else 1
        for key in keys:
            found = _child(node, key)
            if found is None:
                break
            marked, node = found
            line = marked.start_mark.line + 1
        return line

    def node(self, *keys: Key) -> tuple[Node, Node] | None:
        """Key node and value node of a place; for the root and items, twice the node."""
        if self.root is None:
            return None
        found: tuple[Node, Node] | None = (self.root, self.root)
        for key in keys:
            found = _child(found[1], key) if found is not None else None
        return found

    def error(self) -> CatalogError:
        """All mistakes, one a line, each with its place."""
        mistakes = sorted(set(self.mistakes))
        return CatalogError("\n".join(f"{self.path}:{m.line}: {m.text}" for m in mistakes))


def _child(node: Node | None, key: Key) -> tuple[Node, Node] | None:
    if isinstance(node, MappingNode):
        for name, value in node.value:
            if isinstance(name, ScalarNode) and name.value == str(key):
                return name, value
    if isinstance(node, SequenceNode) and isinstance(key, int) and key < len(node.value):
        return node.value[key], node.value[key]
    return None


def _duplicates(root: Node | None) -> Iterator[tuple[str, int, int]]:
    """Keys that a mapping has twice: key, first line, second line."""
    waiting, seen = [root] if root is not None else [], set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen or isinstance(node, ScalarNode):
            continue
        seen.add(id(node))
        if isinstance(node, SequenceNode):
            waiting.extend(node.value)
            continue
        first: dict[tuple[str, str], int] = {}
        for name, value in node.value:
            waiting.append(value)
            if not isinstance(name, ScalarNode):
                continue
            line = name.start_mark.line + 1
            known = first.setdefault((str(name.tag), name.value), line)
            if known != line:
                yield name.value, known, line


def _problem(error: MarkedYAMLError) -> str:
    """The parser's words without anything of the text, which may be a secret."""
    problem = str(error.problem or error.context or "unknown problem")
    if "undefined alias" in problem:
        return "a value that starts with '*' must be put in quotes"
    if "the tag" in problem:
        return "a value that starts with '!' must be put in quotes"
    # ',' and '<stream end>' are the parser's own; anything longer is quoted from the text.
    return re.sub(
        r"'([^']*)'|\"([^\"]*)\"",
        lambda m: m[0] if len(m[0]) <= SHORT_QUOTE or m[0][1] == "<" else "…",
        problem,
    )
