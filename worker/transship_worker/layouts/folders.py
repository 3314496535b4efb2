"""A layout folder as a registry: its repositories, their tags, and what reads and writes them."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator, Generator
from itertools import islice
from pathlib import Path
from typing import Final

from transship.errors import RepositoryMissing
from transship_worker.concurrency.threads import in_thread
from transship_worker.layouts.archive import ArchiveSource
from transship_worker.layouts.folder import RESERVED, Folder, told, translate
from transship_worker.layouts.layout import LayoutSource, LayoutTarget
from transship_worker.layouts.stored import StoredSource
from transship_worker.oci.names import LeftOut, Skipped, Warn, is_repository

#: Repositories that are listed at once.
PAGE_SIZE: Final = 500
#: How archives are called that ``repositories`` lists.
ARCHIVES: Final = (".tar", ".tar.gz", ".tgz")


class LayoutFolder:
    """One folder; cheap to make, nothing is kept open."""

    def __init__(self, path: Path, registry: str) -> None:
        """``registry`` is what it is called in references: ``NAME.layout``."""
        self._folder = Folder(path, registry)

    @property
    def registry(self) -> str:
        """What it is called in references."""
        return self._folder.registry

    async def source(self, repository: str) -> StoredSource:
        """What images of a repository are read from: a layout, or an archive where a file is.

        Raises:
            RepositoryMissing: nothing has this name.
            NotUnderRegistry: nothing can have it.
            NotAllowed: a symbolic link has it, or leads to it.
            RegistryUnreachable: the folder is not there.
        """
        if await in_thread(self._is_file, repository):
            return ArchiveSource(self._folder, repository)
        return LayoutSource(self._folder, repository)

    def target(self, repository: str) -> LayoutTarget:
        """What images of a repository are written to.

        Raises:
            NotUnderRegistry: no repository can be called so.
        """
        return LayoutTarget(self._folder, repository)

    async def tags(self, repository: str, warn: Warn | None = None) -> list[str]:
        """The tags of a repository, sorted; see ``StoredSource.tags`` for ``warn``.

        Raises:
            RepositoryMissing: nothing has this name.
            PushError: it cannot be read.
        """
        return await (await self.source(repository)).tags(warn)

    async def repositories(self, warn: Warn | None = None) -> AsyncIterator[list[str]]:
        """All layouts, and all archives that are called so (``ARCHIVES``), a page at a time.

        ``warn`` hears, once each, how many folders and archives were skipped since no repository
        can be called so, or since they are symbolic links. Hidden ones are passed over.

        Raises:
            RegistryUnreachable: the folder is not there.
            Denied: a folder in it cannot be read.
        """
        walk = _Walk(self._folder)
        found = walk.repositories()
        try:
            while page := await in_thread(lambda: list(islice(found, PAGE_SIZE))):
                yield page
        finally:
            found.close()
        if warn is not None:
            for message in walk.messages():
                warn(message)

    async def check(self) -> bool:
        """Return if the folder is there and can be read: whether it can be written, too.

        Raises:
            RegistryUnreachable, Denied: it is not there, or cannot be read.
        """
        return await in_thread(self._check)

    def _check(self) -> bool:
        # Opening it asks for the right to list it.
        with told(self.registry), self._folder.directory() as directory:
            return os.access(".", os.W_OK | os.X_OK, dir_fd=directory)

    def _is_file(self, repository: str) -> bool:
        *above, name = self._folder.parts(repository)
        try:
            with told(self._folder.name(repository)), self._folder.directory(*above) as directory:
                found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except RepositoryMissing:
            raise RepositoryMissing(
                f"there is no repository {self._folder.name(repository)}: neither an OCI image "
                "layout nor an archive is there"
            ) from None
        return not stat.S_ISDIR(found.st_mode)


class _Walk:
    """One search for all repositories of a folder, and what it leaves out."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._invalid = Skipped("repository name", is_repository)
        self._links = LeftOut(
            "symbolic link, which is not followed", "symbolic links, which are not followed"
        )
        self._is_layout = False

    def messages(self) -> list[str]:
        """One line for each kind of what was left out so far."""
        found = [left_out.message(str) for left_out in (self._invalid, self._links)]
        if self._is_layout:
            found.append(
                f"{self._folder.registry} is an image layout itself and was skipped: it has no "
                "repository name; let uri name the folder above it"
            )
        return [message for message in found if message]

    def repositories(self) -> Generator[str, None, None]:
        """Their names; blocks."""
        with told(self._folder.registry), self._folder.directory() as top:
            walk = os.fwalk(".", dir_fd=top, onerror=self._failed)
            for path, folders, files, directory in walk:
                here = path.removeprefix(".").removeprefix("/")
                folders[:] = sorted(f for f in folders if self._is_folder(here, f, directory))
                if {"index.json", "oci-layout"} <= set(files):
                    if here:
                        yield here
                    self._is_layout |= not here
                for file in sorted(files):
                    if self._is_archive(here, file, directory):
                        yield _joined(here, file)

    def _failed(self, error: OSError) -> None:
        # What was there a moment ago may be gone.
        if not isinstance(error, FileNotFoundError):
            raise translate(error, f"a folder of {self._folder.registry}") from error

    def _is_folder(self, above: str, name: str, directory: int) -> bool:
        """Whether there may be repositories in it."""
        if name in RESERVED or _is_hidden(name):
            return False
        return self._may_be_named(_joined(above, name), _mode(directory, name))

    def _is_archive(self, above: str, name: str, directory: int) -> bool:
        # Also those that are left out for their name.
        if _is_hidden(name) or not name.lower().endswith(ARCHIVES):
            return False
        mode = _mode(directory, name)
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            return False
        return self._may_be_named(_joined(above, name), mode)

    def _may_be_named(self, name: str, mode: int) -> bool:
        if stat.S_ISLNK(mode):
            self._links.add(name)
            return False
        return bool(self._invalid.names([name]))


def _joined(above: str, name: str) -> str:
    return f"{above}/{name}" if above else name


def _is_hidden(name: str) -> bool:
    """Whether it belongs to the file system or another program, by its name."""
    return name.startswith(".") or name == "lost+found"


def _mode(directory: int, name: str) -> int:
    """Kind of a file; zero: it is gone."""
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return 0
