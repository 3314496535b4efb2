"""Where this repository's files are."""

from __future__ import annotations

from pathlib import Path
from typing import Final

#: The top of the repository.
ROOT: Final = Path(__file__).parents[2]
