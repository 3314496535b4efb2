"""The catalogue of a running worker: a changed file counts without a restart."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import Final

from transship.errors import CatalogError
from transship.model.components import PublicComponent
from transship_config.settings import Settings
from transship_worker.catalog.file import Document, Place
from transship_worker.catalog.model import Components, build
from transship_worker.flavors.base import BaseContainerRegistry

logger = logging.getLogger("transship.catalog")

#: A broken catalogue is tried again after this, although it did not change: what it names
#: (a folder, a module) may be there by now. Unit: s.
RETRY_BROKEN_S: Final = 5.0


class Catalog:
    """The newest good version of the catalogue. Safe to use from several threads."""

    def __init__(self, place: Place) -> None:
        """Nothing is read yet; see ``open``."""
        self._place = place
        self._lock = threading.Lock()
        self._components = Components()
        self._signature: tuple[int, ...] | None = None
        self._looked = False
        self._tried_at = 0.0
        self._error: str | None = None

    @classmethod
    def open(cls, where: Settings | str | Path | None = None) -> Catalog:
        """The catalogue that the settings or a path name, else the user's own.

        A file that is not there is an empty catalogue; ``error`` says how to create it, and
        it counts as soon as it is created.

        Raises:
            CatalogError: the file is there and cannot be used; all its mistakes.
        """
        explicit = where.catalog if isinstance(where, Settings) else where
        catalog = cls(Place.find(explicit))
        catalog.current()
        if catalog._error is not None and catalog._signature is not None:
            raise CatalogError(catalog._error)
        return catalog

    @property
    def path(self) -> Path:
        """The file."""
        return self._place.path

    @property
    def error(self) -> str | None:
        """What is wrong with the newest version, while the last good one is used."""
        return self._error

    def current(self) -> Components:
        """The components; the file is looked at, and read if it changed."""
        signature = self._place.signature()
        with self._lock:
            again = self._error is not None and self._tried_at + RETRY_BROKEN_S < time.monotonic()
            if not self._looked or signature != self._signature or again:
                self._looked, self._signature = True, signature
                self._reload()
            return self._components

    @property
    def last(self) -> Components:
        """The components as they were last read. Looks at no file, and takes no lock."""
        return self._components

    @property
    def names(self) -> list[str]:
        """The components' names, sorted."""
        return self.current().names

    def registry(self, name: str) -> BaseContainerRegistry:
        """The component of this name.

        Raises:
            UnknownComponent: there is none; the message says what is near.
        """
        return self.current().registry(name)

    def public(self) -> list[PublicComponent]:
        """What producers may know of the components, sorted by name."""
        return self.current().public()

    def _reload(self) -> None:
        before, first = self._error, self._tried_at == 0.0
        self._tried_at = time.monotonic()
        try:
            self._components = load(self._place)
        except CatalogError as error:
            self._error = error.message
        except FileNotFoundError:
            self._error = self._place.create_hint
        else:
            self._error = None
            if not first:
                logger.info("catalogue %s: %d components", self.path, len(self._components.names))
        if self._error is None or self._error == before:
            return
        if not first:
            for line in self._error.splitlines():
                logger.warning("catalogue: %s; the last good version stays in use", line)
        elif self._signature is None:
            logger.warning("catalogue: %s", self._error)


def load(place: Place) -> Components:
    """Read a catalogue.

    Raises:
        FileNotFoundError: it is not there.
        CatalogError: all its mistakes.
    """
    return build(Document.parse(place.path, place.read()))
