"""Custom flavors: classes named by their source path in the worker's own catalogue.

They are looked for in the catalogue's ``flavor_paths`` and among the installed packages, and
never in the working directory, which may be anybody's. A module is imported once: a change
of its code counts after a restart of the worker.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import re
import sys
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Final

from transship_config.errors import UsageError
from transship_config.names import NAME_PATTERN
from transship_config.text import did_you_mean
from transship_worker.flavors import BUILT_IN
from transship_worker.flavors.base import BaseContainerRegistry

logger = logging.getLogger("transship.flavor")

EXAMPLE: Final = "acme_flavors.scanned.ScannedRegistry"

#: ``sys.path`` belongs to the whole process.
_importing = threading.Lock()


def load(
    source: str, *, paths: Sequence[Path] = (), taken: Collection[str] = ()
) -> type[BaseContainerRegistry]:
    """Import a flavor's class and check that it is one.

    ``paths``: the catalogue's ``flavor_paths``; ``taken``: names of its other custom flavors.

    Raises:
        UsageError: in one line, what is wrong with the source path or the class.
    """
    module_name, attribute = _split(source)
    found = getattr(_module(source, module_name, paths), attribute, None)
    module = sys.modules[module_name]
    if found is None:
        known = [name for name, value in vars(module).items() if _is_flavor(value)]
        raise UsageError(
            f"flavor {source!r}: module {module_name} has no {attribute!r};"
            f"{did_you_mean(attribute, known)}"
        )
    if not inspect.isclass(found):
        raise UsageError(f"flavor {source!r} is not a class; write {EXAMPLE}, for example")
    if not issubclass(found, BaseContainerRegistry):
        raise UsageError(
            f"flavor {source!r} is not a subclass of transship_worker.BaseContainerRegistry"
        )
    _check_name(source, found, taken)
    return found


def _split(source: str) -> tuple[str, str]:
    parts = source.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise UsageError(
            f"flavor {source!r} is not a source path; write module.Class, for example {EXAMPLE}"
        )
    return ".".join(parts[:-1]), parts[-1]


def _is_flavor(value: object) -> bool:
    return (
        inspect.isclass(value)
        and issubclass(value, BaseContainerRegistry)
        and value is not BaseContainerRegistry
    )


def _check_name(source: str, found: type[BaseContainerRegistry], taken: Collection[str]) -> None:
    name: object = found.FLAVOR
    if not isinstance(name, str) or not name:
        raise UsageError(f'flavor {source!r} has no name; set the class variable FLAVOR = "..."')
    if not re.fullmatch(NAME_PATTERN, name):
        raise UsageError(
            f"flavor {source!r}: FLAVOR {name!r} must be up to 63 letters, digits, '_', '.' and "
            "'-', the first a letter or a digit"
        )
    if name in BUILT_IN or name in taken:
        whose = "built-in" if name in BUILT_IN else "another custom flavor's"
        raise UsageError(f"flavor {source!r}: the name {name!r} is {whose}; choose another FLAVOR")


def _module(source: str, name: str, paths: Sequence[Path]) -> ModuleType:
    with _importing, _search_path(paths) as searched:
        importlib.invalidate_caches()
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise UsageError(
                    f"flavor {source!r}: module {name} imports {error.name}, which is not installed"
                ) from error
            places = "".join(f"{path}, " for path in paths).removesuffix(", ") + " and " * bool(
                paths
            )
            raise UsageError(
                f"flavor {source!r}: there is no module {error.name}; looked in {places}the "
                "installed packages (never in the working directory: name its folder in "
                "flavor_paths)"
            ) from error
        except (Exception, SystemExit) as error:
            # Foreign code may raise anything while it is imported.
            logger.debug("import of %s raised", name, exc_info=True)
            said = " ".join(str(error).split())[:300]
            raise UsageError(
                f"flavor {source!r}: importing module {name} raised {type(error).__name__}: {said}"
            ) from error
        root = _root(module)
        if root is not None and root == Path.cwd().resolve() and root not in searched:
            raise UsageError(
                f"flavor {source!r}: module {name} comes from the working directory {root}, which "
                "is not trusted; name it in flavor_paths"
            )
    return module


@contextmanager
def _search_path(paths: Sequence[Path]) -> Iterator[set[Path]]:
    """``sys.path`` without the working directory and with the flavors' folders at its end.

    The folders stay, so that a flavor can import its neighbours when it runs; at the end, so
    that they hide no installed package.
    """
    here = Path.cwd().resolve()
    before = list(sys.path)
    own = [str(path) for path in paths if str(path) not in before]
    wanted = {path.resolve() for path in paths}
    kept = [e for e in before if e and (Path(e).resolve() != here or Path(e).resolve() in wanted)]
    sys.path[:] = [*kept, *own]
    try:
        yield {Path(entry).resolve() for entry in sys.path}
    finally:
        sys.path[:] = [*before, *own]


def _root(module: ModuleType) -> Path | None:
    """The folder in which the module's first part lies."""
    top = sys.modules.get(module.__name__.partition(".")[0], module)
    if top.__file__ is not None:
        file = Path(top.__file__).resolve()
        return file.parent.parent if file.name == "__init__.py" else file.parent
    folders = list(getattr(top, "__path__", ()))
    return Path(folders[0]).resolve().parent if folders else None
