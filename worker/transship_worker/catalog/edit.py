"""Changes of the catalogue by the command line: in place, comments kept, all or nothing.

A change is made to the lines that it concerns and to no others; the result is parsed and
compared with what was meant before it is written. Where lines cannot be told apart (flow
style, ``registries: {a: {...}}``), ruamel.yaml's round trip writes the file anew. The round
trip alone would not do: it keeps the comments above a component with the component before
it, and loses them when that one is deleted.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.nodes import CollectionNode, MappingNode, Node, SequenceNode
from ruamel.yaml.util import load_yaml_guess_indent

from transship.errors import CatalogError
from transship.model.components import unknown_component
from transship_config.errors import UsageError
from transship_worker.catalog.file import Document, Place
from transship_worker.catalog.model import build

#: Only its user reads a catalogue that the command line makes.
NEW_FILE_MODE: Final = 0o600
_HEAD: Final = "# Registry components of this machine's Transship workers.\n"
_INDENT: Final = 2


def add_component(place: Place, name: str, options: dict[str, Any], *, private: bool) -> None:
    """Add a component; ``private``: the file is made readable by its user alone.

    Raises:
        UsageError: there is one of this name.
        CatalogError: the catalogue has mistakes, now or with the new component.
    """

    def change(document: Document) -> tuple[str | None, Any]:
        wanted = _data(document)
        components = wanted["registries"] = wanted.get("registries") or {}
        if name in components:
            raise UsageError(
                f"{name!r} is in {place.path}:{document.line('registries', name)} already; to "
                f"change it, edit that file, or first: transship registry delete {name}"
            )
        components[name] = options
        return _with_entry(document, "registries", {name: options}), wanted

    _edit(place, change, create=True, private=private)


def remove_component(place: Place, name: str) -> None:
    """Remove a component.

    Raises:
        UnknownComponent: there is none of this name.
        CatalogError: the catalogue is not there, or has mistakes.
    """

    def change(document: Document) -> tuple[str | None, Any]:
        wanted = _data(document)
        components = wanted.get("registries") or {}
        if name not in components:
            raise unknown_component(name, components)
        del components[name]
        return _without(document, "registries", name), wanted

    _edit(place, change, create=False, private=False)


def add_flavor(place: Place, source: str, folder: str | None = None) -> bool:
    """Add a custom flavor, and the folder it lies in; ``False``: both are there already.

    Raises:
        CatalogError: the catalogue has mistakes, now or with the new flavor.
    """

    def change(key: str, item: str) -> Callable[[Document], tuple[str | None, Any]]:
        def changed(document: Document) -> tuple[str | None, Any]:
            wanted = _data(document)
            items = wanted[key] = list(wanted.get(key) or [])
            if item in items:
                return document.text, wanted
            items.append(item)
            return _with_entry(document, key, [item]), wanted

        return changed

    changes = [change("flavors", source)]
    if folder is not None:
        changes.insert(0, change("flavor_paths", folder))

    def all_of_them(document: Document) -> tuple[str | None, Any]:
        for one in changes:
            text, wanted = one(document)
            document = Document.parse(document.path, _settled(document, text, wanted))
        return document.text, document.data

    return _edit(place, all_of_them, create=True, private=False)


def _data(document: Document) -> dict[str, Any]:
    data = deepcopy(document.data)
    return data if isinstance(data, dict) else {}


def _edit(
    place: Place,
    change: Callable[[Document], tuple[str | None, Any]],
    *,
    create: bool,
    private: bool,
) -> bool:
    """Read, change, check and replace the file, one process at a time; whether it changed."""
    with _locked(place.path, create=create):
        try:
            text = place.read()
        except FileNotFoundError:
            if not create:
                raise CatalogError(place.create_hint) from None
            text = None
        document = Document.parse(place.path, text or "")
        build(document)
        changed = _settled(document, *change(document))
        build(Document.parse(place.path, changed))
        if changed == text:
            return False
        _replace(place.path, changed if text is not None else _HEAD + changed, private=private)
        return True


def _settled(document: Document, text: str | None, wanted: Any) -> str:
    """The changed text if it says what is wanted, else what the round trip makes of it."""
    if text is not None:
        again = Document.parse(document.path, text)
        if not again.mistakes and _same(again.data, wanted):
            return text
    return _round_trip(document.text, wanted)


def _same(one: Any, other: Any) -> bool:
    """Equal, when an empty section and none are the same."""
    if not isinstance(one, dict) or not isinstance(other, dict):
        return bool(one == other) or (not one and not other)
    return {k: v for k, v in one.items() if v} == {k: v for k, v in other.items() if v}


def _round_trip(text: str, wanted: dict[str, Any]) -> str:
    data, indent, offset = load_yaml_guess_indent(text)
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=indent or _INDENT, sequence=indent or _INDENT, offset=offset or 0)
    data = data if data is not None else {}
    for key, value in wanted.items():
        held = data.get(key)
        if isinstance(held, dict) and isinstance(value, dict):
            for name in [name for name in held if name not in value]:
                del held[name]
            held.update({name: entry for name, entry in value.items() if name not in held})
        elif isinstance(held, list) and isinstance(value, list):
            held.extend(value[len(held) :])
        else:
            data[key] = value
    stream = io.StringIO()
    yaml.dump(data, stream)
    return stream.getvalue()


def _with_entry(document: Document, key: str, entry: dict[str, Any] | list[str]) -> str | None:
    """The text with an entry at the end of a section; ``None``: lines will not do."""
    text = (
        document.text
        if document.text.endswith("\n") or not document.text
        else (document.text + "\n")
    )
    found = document.node(key)
    if found is None:
        if document.root is not None and _is_flow(document.root):
            return None
        return text + ("\n" if text else "") + _rendered({key: entry}, 0)
    name, section = found
    if not isinstance(section, MappingNode | SequenceNode):
        # ``registries:`` with nothing in it.
        at, column = name.start_mark.line, _INDENT
    elif isinstance(entry, list) and _is_flow(section):
        end = section.end_mark.index - 1
        comma = ", " if section.value else ""
        return text[:end] + comma + ", ".join(_flow_text(item) for item in entry) + text[end:]
    elif _is_flow(section) or not section.value:
        return None
    else:
        at, column = _last_line(section), _column(section)
    lines = text.split("\n")
    return "\n".join(lines[: at + 1]) + "\n" + _rendered(entry, column) + "\n".join(lines[at + 1 :])


def _flow_text(item: str) -> str:
    return item if re.fullmatch(r"[A-Za-z_/][A-Za-z0-9_./-]*", item) else json.dumps(item)


def _without(document: Document, key: str, name: str) -> str | None:
    """The text without one entry of a section; ``None``: lines will not do."""
    section, found = document.node(key), document.node(key, name)
    if section is None or found is None or _is_flow(section[1]):
        return None
    lines = document.text.split("\n")
    first, last = found[0].start_mark.line, max(_last_line(node) for node in found)
    return "\n".join([*lines[:first], *lines[last + 1 :]])


def _is_flow(node: Node) -> bool:
    return isinstance(node, CollectionNode) and bool(node.flow_style)


def _column(section: MappingNode | SequenceNode) -> int:
    """Where the entries of a block start; a list's marks stand behind its dashes."""
    if isinstance(section, SequenceNode):
        return int(section.start_mark.column)
    return int(section.value[0][0].start_mark.column)


def _last_line(node: Node) -> int:
    """The line, counted from 0, in which a node's own text ends; comments after it are not its."""
    if isinstance(node, CollectionNode) and not node.flow_style and node.value:
        children = [
            part
            for child in node.value
            for part in (child if isinstance(child, tuple) else [child])
        ]
        return max(_last_line(child) for child in children)
    start, end = node.start_mark, node.end_mark
    return int(end.line - 1 if end.column == 0 and end.line > start.line else end.line)


def _rendered(value: Any, column: int) -> str:
    """Lines of YAML, each with its line end."""
    yaml = YAML()
    yaml.width = 4096
    yaml.indent(mapping=_INDENT, sequence=_INDENT * 2, offset=_INDENT)
    if isinstance(value, list):
        yaml.indent(mapping=_INDENT, sequence=_INDENT, offset=0)
    stream = io.StringIO()
    yaml.dump(_references_in_flow(value), stream)
    lines = stream.getvalue().removesuffix("\n").split("\n")
    return "".join(f"{' ' * column}{line}\n" if line else "\n" for line in lines)


def _references_in_flow(value: Any) -> Any:
    """``{env: NAME}`` on one line, as the documentation writes it."""
    from ruamel.yaml.comments import CommentedMap

    if isinstance(value, dict):
        made = CommentedMap({key: _references_in_flow(entry) for key, entry in value.items()})
        if set(value) in ({"env"}, {"file"}):
            made.fa.set_flow_style()
        return made
    return [_references_in_flow(entry) for entry in value] if isinstance(value, list) else value


@contextmanager
def _locked(path: Path, *, create: bool) -> Iterator[None]:
    """One change at a time: the folder is locked, so that no lock file is left behind."""
    folder = path.resolve().parent
    try:
        if create:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        # Nothing to protect; reading says what is missing.
        yield
        return
    except OSError as error:
        raise CatalogError(f"{folder}: {error.strerror}") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _replace(path: Path, text: str, *, private: bool) -> None:
    """Write a whole new file beside the old one and put it in its place."""
    # A link stays a link; what it points to is replaced.
    path = path.resolve()
    try:
        before: os.stat_result | None = path.stat()
    except FileNotFoundError:
        before = None
    mode = NEW_FILE_MODE if before is None or private else stat.S_IMODE(before.st_mode)
    temporary: str | None = None
    try:
        # mkstemp makes it readable by its user alone.
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            if before is not None and os.geteuid() == 0:
                os.fchown(stream.fileno(), before.st_uid, before.st_gid)
            os.fchmod(stream.fileno(), mode)
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
        temporary = None
    except OSError as error:
        raise CatalogError(f"{path} cannot be changed: {error.strerror}") from None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
