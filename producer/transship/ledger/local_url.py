"""Where the Redis of ``transship up`` is, for every command that is not told otherwise."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from platformdirs import user_data_path

from transship_config.errors import InvalidSettings

#: Name of the file that holds the URL while ``transship up`` runs.
URL_FILE: Final = "url"


def local_folder() -> Path:
    """Where ``transship up`` keeps its files: ``transship/local`` in the user's data folder."""
    return user_data_path("transship", appauthor=False) / "local"


def local_url() -> str | None:
    """The Redis URL that ``transship up`` wrote, or ``None`` when it does not run.

    Raises:
        InvalidSettings: others may read or write the file, so its content cannot be trusted.
    """
    path = local_folder() / URL_FILE
    try:
        with path.open(encoding="utf-8") as file:
            if os.name == "posix":
                _check(path, os.fstat(file.fileno()))
            return file.read().strip() or None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettings(
            f"{path} cannot be read ({type(error).__name__}); delete it, or set TRANSSHIP_URL"
        ) from None


def _check(path: Path, status: os.stat_result) -> None:
    """The file holds a password: it must be this user's, and nobody else's."""
    if status.st_uid != os.geteuid():
        raise InvalidSettings(f"{path} belongs to another user; delete it, or set TRANSSHIP_URL")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise InvalidSettings(f"{path} can be read by others; run: chmod 600 {path}")
