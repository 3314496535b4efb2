"""The catalogue as a file: where it is, who may write it, and in which line something stands."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import platformdirs

from transship.errors import CatalogError
from transship.model.yaml_text import Key, YamlText
from transship.model.yaml_text import LineMistake as Mistake
from transship_config.text import clean

#: More than this is no catalogue. Unit: bytes.
LARGEST: Final = 4 * 1024 * 1024

__all__ = ["LARGEST", "Document", "Key", "Mistake", "Place"]


@dataclass(frozen=True, slots=True)
class Place:
    """Which file is the catalogue."""

    path: Path
    #: Nobody named it: it was found in the user's configuration folder.
    by_default: bool = False

    @classmethod
    def find(cls, explicit: str | Path | None = None) -> Place:
        """The named file, else ``transship/catalog.yaml`` in the user's configuration folder."""
        if explicit:
            return cls(Path(explicit).expanduser().absolute())
        folder = platformdirs.user_config_path("transship", appauthor=False)
        return cls(folder / "catalog.yaml", by_default=True)

    @property
    def create_hint(self) -> str:
        """What makes a catalogue that is not there."""
        option = "" if self.by_default else f" --catalog {self.path}"
        return (
            f"there is no catalogue at {self.path}; create it with: transship registry register "
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


@dataclass(slots=True)
class Document(YamlText):
    """A catalogue's YAML: its values, and the line of each."""

    path: Path = Path()

    @classmethod
    def parse(cls, path: Path, text: str) -> Document:
        """Read the text; what is wrong with it as YAML stands in ``mistakes``."""
        document = cls.read(text)
        document.path = path
        return document

    def error(self) -> CatalogError:
        """All mistakes, one a line, each with its place."""
        mistakes = sorted(set(self.mistakes))
        # Keys and values are told as they stand in the file; none may move a cursor or end a line.
        lines = (clean(f"{self.path}:{m.line}: {m.text}") for m in mistakes)
        return CatalogError("\n".join(lines))
