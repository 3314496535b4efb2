"""Lua scripts that are shipped with the packages."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


def read_script(package: str, name: str) -> str:
    """The text of a Lua script that is shipped in a package's ``lua`` folder."""
    return (resources.files(package) / "lua" / f"{name}.lua").read_text("utf-8")
