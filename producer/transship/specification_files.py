"""Specifications and plans as files; each mistake is reported with its file and line.

A specification is YAML or JSON, a plan is JSON lines; which of them a text is shows in its first
line, whatever the file is called.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import IO, Any, Final

from transship.model.migration.mistakes import MOST_MISTAKES, Mistake, SpecError
from transship.model.migration.plan import LONGEST_ROW, PlanRow
from transship.model.migration.specification import Spec
from transship.model.migration.summary import Collisions
from transship_config.errors import UsageError

#: More than this is no specification that a person wrote. Unit: bytes.
LARGEST_SPEC: Final = 4 * 1024 * 1024
#: A row in UTF-8, with its line end. Unit: bytes.
_LONGEST_LINE: Final = 4 * LONGEST_ROW + 2
#: Keys of which a row has one at least, and a specification none.
_ROW_KEYS: Final = frozenset({"migration", "action", "source", "target"})
#: A row that was cut off in its middle is still seen to be one.
_ROW_START = re.compile(rb'\s*\{\s*"version"\s*:\s*\d+\s*,\s*"migration"\s*:')


@dataclass(frozen=True, slots=True)
class SpecText:
    """A specification with the text that it was read from."""

    spec: Spec
    name: str
    text: str

    def error(self, mistakes: Iterable[Mistake]) -> SpecError:
        """Mistakes that were found later, each with the file and the line."""
        return _located(self.name, self.text, mistakes)


@dataclass(frozen=True, slots=True)
class PlanLines:
    """The rows of a plan, read and checked one after another; they can be read once."""

    name: str
    rows: Iterator[PlanRow]
    #: What a run of it is called if nothing else is known.
    title: str = "plan"


def read_file(path: str | PathLike[str]) -> SpecText | PlanLines:
    """A specification or a plan in a file.

    Raises:
        UsageError: the file cannot be read.
        SpecError: a specification with mistakes. Those of a plan come when its rows are read.
    """
    path = Path(path)
    try:
        stream = path.open("rb")
    except ValueError:
        raise UsageError(f"{str(path)!r} is no name of a file") from None
    except OSError as error:
        raise _unreadable(path, error) from None
    try:
        found = read_stream(stream, str(path))
    except OSError as error:
        stream.close()
        raise _unreadable(path, error) from None
    except BaseException:
        stream.close()
        raise
    if isinstance(found, SpecText):
        stream.close()
        return found
    return PlanLines(found.name, _closing(stream, found.rows), _title(path))


def _title(path: Path) -> str:
    """A migration's name, made from the file's: ``hub-to-ecr`` of ``hub-to-ecr.jsonl``."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", path.stem).lstrip("_.-")[:63] or "plan"


def _unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"{path}: {(error.strerror or 'cannot be read').lower()}")


def _closing(stream: IO[bytes], rows: Iterator[PlanRow]) -> Iterator[PlanRow]:
    with closing(stream):
        yield from rows


def read_stream(stream: IO[bytes], name: str) -> SpecText | PlanLines:
    """The same from a stream of bytes, which stays open; ``name`` stands for it in messages."""
    first, skipped = b"", 0
    for line in iter(lambda: stream.readline(_LONGEST_LINE + 1), b""):
        first = line.removeprefix(codecs.BOM_UTF8) if not skipped else line
        if first.strip():
            break
        skipped += 1
    if _is_row(first):
        return PlanLines(name, _rows(stream, name, first, skipped + 1))
    # Lines that were skipped count in the numbers of those that follow.
    raw = b"\n" * skipped + first + stream.read(LARGEST_SPEC + 1)
    return read_spec(_decoded(raw, name), name)


def _is_row(line: bytes) -> bool:
    """Whether a line is one of a plan, and no specification in one line."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return _ROW_START.match(line) is not None
    return isinstance(found, dict) and "rules" not in found and not _ROW_KEYS.isdisjoint(found)


def _decoded(raw: bytes, name: str) -> str:
    if len(raw) > LARGEST_SPEC:
        raise UsageError(f"{name}: larger than {LARGEST_SPEC} bytes; a specification is not")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{name}:{line}: not UTF-8 text") from None


def read_spec(text: str, name: str) -> SpecText:
    """A specification; ``name`` is the file's in messages.

    Raises:
        SpecError: all its mistakes, one a line.
    """
    data = _json(text)
    if data is None:
        # Loaded here: a specification in JSON needs no YAML.
        from transship.model.yaml_text import YamlText

        yaml = YamlText.read(text)
        if yaml.mistakes:
            found = sorted(set(yaml.mistakes))
            raise SpecError(Mistake((), f"{name}:{one.line}: {one.text}") for one in found)
        data = yaml.data
    try:
        return SpecText(Spec.parse(data), name, text)
    except SpecError as error:
        raise _located(name, text, error.mistakes) from None


def _json(text: str) -> Any:
    """The value of a JSON object; ``None`` for anything else, which may be YAML."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        return None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def _located(name: str, text: str, mistakes: Iterable[Mistake]) -> SpecError:
    from transship.model.yaml_text import YamlText

    # Tabs may indent JSON; in JSON's texts there are none.
    yaml = YamlText.read(text if _json(text) is None else text.replace("\t", " "))
    found = sorted((yaml.line(*mistake.keys), str(mistake)) for mistake in mistakes)
    return SpecError(Mistake((), f"{name}:{line}: {words}") for line, words in found)


def _rows(stream: IO[bytes], name: str, first: bytes, number: int) -> Iterator[PlanRow]:
    """Rows that are right as they come; at the end (or after many) an error for the others."""
    mistakes: list[Mistake] = []
    collisions = Collisions()
    line = first
    while line:
        if line.strip():
            place = f"{name}:{number}"
            try:
                row = _row(line, place)
            except SpecError as error:
                mistakes += [Mistake((), text) for text in str(error).splitlines()]
            else:
                clashes = [f"{place}: {_clash(one.target, one.first)}"
                           for one in collisions.add(row)]  # fmt: skip
                mistakes += [Mistake((), text) for text in clashes]
                if not mistakes:
                    yield row
        if len(mistakes) > MOST_MISTAKES:
            break
        line = stream.readline(_LONGEST_LINE + 1)
        number += 1
    if mistakes:
        raise SpecError(mistakes)


def _row(line: bytes, place: str) -> PlanRow:
    if len(line) > _LONGEST_LINE:
        raise SpecError([Mistake((), f"longer than {LONGEST_ROW} characters")], what=place)
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise SpecError([Mistake((), "not UTF-8 text")], what=place) from None
    return PlanRow.parse(text.strip(), what=place)


def _clash(target: str, first: str) -> str:
    return f"another row puts {first} at {target}; keep one of the two"
