"""The picture in ``docs/architecture.md``, drawn from the import contracts of ``pyproject.toml``.

``python -m tools.architecture`` writes the picture, and with ``--check`` it only compares: the
exit status is 1 if the picture is stale. The packages, their floors and the order of the floors
come from the ``layers`` contracts of import-linter, the texts from the first line of each
docstring. The output depends on nothing else.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
PICTURE: Final = ROOT / "docs" / "images" / "architecture.svg"
COMMAND: Final = "python -m tools.architecture"

#: The longest description that fits on its line. Unit: characters.
LONGEST_TEXT: Final = 88

#: Sizes of the drawing. Unit: px.
WIDTH: Final = 920
MARGIN: Final = 24
HEADER: Final = 48
ROW: Final = 24
FLOOR_GAP: Final = 6
BLOCK_GAP: Final = 36
#: Where the floors of a block begin; the arrow stands to their left.
FLOOR_LEFT: Final = 64
NAME_LEFT: Final = 78
TEXT_LEFT: Final = 240

#: Fill and stroke of the blocks, from the top; readable on light and on dark pages.
COLORS: Final = (("#eff6ff", "#1d4ed8"), ("#f0fdf4", "#15803d"), ("#fffbeb", "#b45309"))
FONT: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
MONOSPACE: Final = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


class CannotDraw(Exception):
    """The picture cannot be drawn; the message names the contract or the docstring to fix."""


@dataclass(frozen=True, slots=True)
class Module:
    """A module or package on a floor."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Package:
    """One of the three installed packages, with its floors from the top."""

    module: Module
    folder: str
    floors: tuple[tuple[Module, ...], ...]

    @property
    def height(self) -> int:
        """Height of the package's block. Unit: px."""
        rows = sum(len(floor) for floor in self.floors)
        return HEADER + rows * ROW + len(self.floors) * FLOOR_GAP + 8


def packages(project: Path = ROOT) -> list[Package]:
    """The packages from the top, as the contracts order them.

    Raises:
        CannotDraw: a contract or a docstring is missing, or a description is too long.
    """
    tool = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))["tool"]
    folders = {
        Path(path).name: path for path in tool["hatch"]["build"]["targets"]["wheel"]["packages"]
    }
    contracts = [one for one in tool["importlinter"]["contracts"] if one["type"] == "layers"]
    return [
        _package(project, name, folders[name], contracts) for name in _layers_of(contracts, None)
    ]


def _package(project: Path, name: str, folder: str, contracts: Sequence[dict[str, Any]]) -> Package:
    place = project / folder
    floors = tuple(
        tuple(
            Module(part, _description(place, part))
            for part in re.split(r"\s*[|:]\s*", layer.strip("()"))
        )
        for layer in _layers_of(contracts, name)
    )
    return Package(Module(name, _description(place.parent, name)), folder, floors)


def _layers_of(contracts: Sequence[dict[str, Any]], container: str | None) -> list[str]:
    """The layers of the contract for a package; ``None``: for the packages themselves."""
    wanted = [] if container is None else [container]
    for contract in contracts:
        if contract.get("containers", []) == wanted:
            layers: list[str] = contract["layers"]
            return layers
    raise CannotDraw(f"pyproject.toml has no layers contract for {container or 'the packages'}")


def _description(folder: Path, name: str) -> str:
    """The first line of a docstring, without markup."""
    path = folder / f"{name}.py"
    if not path.exists():
        path = folder / name / "__init__.py"
    docstring = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    if docstring is None:
        raise CannotDraw(f"{path} has no docstring")
    text = docstring.partition("\n")[0].replace("``", "").removesuffix(".")
    if len(text) > LONGEST_TEXT:
        raise CannotDraw(
            f"{path}: the first line of the docstring has {len(text)} characters; "
            f"{LONGEST_TEXT} fit into the picture"
        )
    return text


def picture(drawn: Sequence[Package]) -> str:
    """The drawing of packages, as SVG."""
    height = MARGIN * 2 + sum(p.height for p in drawn) + BLOCK_GAP * (len(drawn) - 1)
    return "\n".join([*_head(drawn, height), *_blocks(drawn), "</svg>", ""])


def _head(drawn: Sequence[Package], height: int) -> Iterator[str]:
    names = ", ".join(package.module.name for package in drawn)
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" role="img" aria-labelledby="t d" '
        f'font-family="{FONT}" font-size="13">'
    )
    yield f"  <!-- Written by {COMMAND} from the contracts in pyproject.toml. Do not edit. -->"
    yield '  <title id="t">The packages of Transship and their floors</title>'
    yield (
        f'  <desc id="d">Three blocks from top to bottom: {escape(names)}. Each lists its modules '
        "on floors. A module imports from lower floors and lower blocks only.</desc>"
    )
    yield (
        '  <defs><marker id="a" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0 L10 5 L0 10 z" fill="#334155"/>'
        "</marker></defs>"
    )
    yield "  <!-- A background of its own: readable on light and on dark pages. -->"
    yield (
        f'  <rect x="1" y="1" width="{WIDTH - 2}" height="{height - 2}" rx="14" '
        'fill="#f8fafc" stroke="#cbd5e1"/>'
    )


def _blocks(drawn: Sequence[Package]) -> Iterator[str]:
    top = MARGIN
    for index, package in enumerate(drawn):
        if index:
            yield _arrow(WIDTH // 2, top - BLOCK_GAP + 4, top - 4)
            yield _text(WIDTH // 2 + 12, top - BLOCK_GAP // 2 + 4, "imports", "#334155")
        yield from _block(package, top, *COLORS[index % len(COLORS)])
        top += package.height + BLOCK_GAP


def _block(package: Package, top: int, fill: str, stroke: str) -> Iterator[str]:
    yield _box(
        MARGIN, top, WIDTH - 2 * MARGIN, package.height, 10, f'fill="{fill}" stroke="{stroke}"'
    )
    name = escape(package.module.name)
    yield _text(
        MARGIN + 16,
        top + 21,
        f'{name}<tspan dx="10" fill="#475569" font-weight="400" '
        f'font-size="12.5">{escape(package.folder)}/</tspan>',
        "#0f172a",
        'font-weight="600" font-size="15"',
    )
    yield _text(MARGIN + 16, top + 39, escape(package.module.text), "#334155")
    bottom = top + package.height - 8
    yield _arrow(MARGIN + 20, top + HEADER + 2, bottom - FLOOR_GAP)
    y = top + HEADER
    for floor in package.floors:
        height = len(floor) * ROW
        yield _box(
            FLOOR_LEFT,
            y,
            WIDTH - MARGIN - 14 - FLOOR_LEFT,
            height,
            6,
            f'fill="#ffffff" stroke="{stroke}" stroke-opacity="0.45"',
        )
        for number, module in enumerate(floor):
            line = y + number * ROW + 16
            yield _text(
                NAME_LEFT,
                line,
                escape(module.name),
                "#0f172a",
                f'font-weight="600" font-size="12.5" font-family="{MONOSPACE}"',
            )
            yield _text(TEXT_LEFT, line, escape(module.text), "#334155")
        y += height + FLOOR_GAP


def _box(x: int, y: int, width: int, height: int, radius: int, style: str) -> str:
    return f'  <rect x="{x}" y="{y}" width="{width}" height="{height}" rx="{radius}" {style}/>'


def _text(x: int, y: int, content: str, color: str, style: str = "") -> str:
    return f'  <text x="{x}" y="{y}" fill="{color}"{style and " " + style}>{content}</text>'


def _arrow(x: int, top: int, bottom: int) -> str:
    return (
        f'  <path d="M{x} {top} L{x} {bottom}" stroke="#334155" stroke-width="1.6" fill="none" '
        'marker-end="url(#a)"/>'
    )


def problem(path: Path = PICTURE) -> str | None:
    """What is wrong with a stored picture; ``None``: it is current."""
    if path.exists() and path.read_text("utf-8") == picture(packages()):
        return None
    return f"{path.relative_to(ROOT)} is stale; write it with: {COMMAND}"


def main(arguments: Sequence[str]) -> int:
    """Write or check the picture; the exit status."""
    if list(arguments) not in ([], ["--check"]):
        sys.stderr.write(f"usage: {COMMAND} [--check]\n")
        return 2
    try:
        if not arguments:
            PICTURE.write_text(picture(packages()), "utf-8")
            return 0
        stale = problem()
    except CannotDraw as error:
        stale = str(error)
    if stale is not None:
        sys.stderr.write(f"error: {stale}\n")
    return 0 if stale is None else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
