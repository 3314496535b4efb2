"""YAML texts as people write them: their values, and the line of each.

A text may come from a stranger. Nothing in it names a Python type, a key that is there twice is
a mistake, and aliases cannot make a small text a huge value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Self

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

#: Values that a text may hold, each alias counted as all that it stands for.
MOST_VALUES: Final = 1_000_000
#: A quotation in the parser's words that is no longer than this is no secret.
SHORT_QUOTE: Final = 4

Key = str | int


@dataclass(order=True, frozen=True, slots=True)
class LineMistake:
    """One thing that is wrong with a text."""

    #: Counted from 1.
    line: int
    text: str


@dataclass(slots=True)
class YamlText:
    """A YAML text: its values, and the line of each."""

    text: str
    data: Any = None
    root: Node | None = None
    mistakes: list[LineMistake] = field(default_factory=list)

    @classmethod
    def read(cls, text: str) -> Self:
        """Read the text; what is wrong with it as YAML stands in ``mistakes``."""
        found = cls(text)
        found._read()
        return found

    def _read(self) -> None:
        try:
            self.root = YAML(typ="safe", pure=True).compose(self.text)
            problem = _bomb(self.root)
            if problem is not None:
                self.mistakes.append(problem)
                return
            for key, first, again in _duplicates(self.root):
                text = f"{key!r} is there twice, first in line {first}; keep one"
                self.mistakes.append(LineMistake(again, text))
            reader = YAML(typ="safe", pure=True)
            # They are reported above, all of them and not only the first.
            reader.allow_duplicate_keys = True
            self.data = reader.load(self.text)
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark is not None else 1
            self.mistakes.append(LineMistake(line, f"not valid YAML: {_problem(error)}"))
        except (YAMLError, ValueError, TypeError, RecursionError) as error:
            # For example control characters, a date that does not exist, a mapping for a key.
            self.mistakes.append(LineMistake(1, f"not valid YAML: {type(error).__name__}"))

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


def _child(node: Node | None, key: Key) -> tuple[Node, Node] | None:
    if isinstance(node, MappingNode):
        for name, value in node.value:
            if isinstance(name, ScalarNode) and name.value == str(key):
                return name, value
    if isinstance(node, SequenceNode) and isinstance(key, int) and key < len(node.value):
        return node.value[key], node.value[key]
    return None


def _children(node: Node) -> list[Node]:
    if isinstance(node, MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, SequenceNode) else []


def _bomb(root: Node | None) -> LineMistake | None:
    """What is wrong when aliases hold themselves, or stand for more than a reader should make."""
    sizes: dict[int, int] = {}
    # A node is visited twice: before what it holds, and after.
    waiting = [(root, False)] if root is not None else []
    open_nodes: set[int] = set()
    while waiting:
        node, after = waiting.pop()
        if after:
            size = 1 + sum(sizes[id(child)] for child in _children(node))
            if size > MOST_VALUES:
                text = f"more than {MOST_VALUES} values, aliases counted as what they stand for"
                return LineMistake(node.start_mark.line + 1, text)
            sizes[id(node)] = size
            open_nodes.discard(id(node))
        elif id(node) in open_nodes:
            text = f"the anchor '&{str(node.anchor)[:40]}' holds itself; take its alias out"
            return LineMistake(node.start_mark.line + 1, text)
        elif id(node) not in sizes:
            open_nodes.add(id(node))
            waiting.append((node, True))
            waiting.extend((child, False) for child in _children(node))
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
        first: dict[tuple[str, str], tuple[int, int]] = {}
        for index, (name, value) in enumerate(node.value):
            waiting.append(value)
            if not isinstance(name, ScalarNode):
                continue
            line = name.start_mark.line + 1
            known, place = first.setdefault((str(name.tag), name.value), (line, index))
            if place != index:
                yield name.value, known, line


def _problem(error: MarkedYAMLError) -> str:
    """The parser's words without anything of the text, which may be a secret."""
    problem = str(error.problem or error.context or "unknown problem")
    context = str(error.context)
    if "undefined alias" in problem or "scanning an alias" in context:
        return "a value that starts with '*' must be put in quotes"
    if "scanning an anchor" in context:
        return "a value that starts with '&' must be put in quotes"
    if "the tag" in problem:
        return "a value that starts with '!' must be put in quotes"
    if "chomping or indentation indicators" in problem:
        return "a value that starts with '>' or '|' must be put in quotes"
    if "character '\\t'" in problem:
        return "found character '\\t' that cannot start a value; indent with spaces, not with a tab"
    if "character '>'" in problem or "character '|'" in problem:
        return "a value that starts with '>' or '|' must be put in quotes"
    if "that cannot start any token" in problem:
        return "a value that starts with '@', '`' or '%' must be put in quotes"
    # ',' and '<stream end>' are the parser's own; anything longer is quoted from the text.
    return re.sub(
        r"'([^']*)'|\"([^\"]*)\"",
        lambda m: m[0] if len(m[0]) <= SHORT_QUOTE or m[0][1] == "<" else "…",
        problem,
    )
