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
from transship_worker.oci.names import is_repository

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

    async def tags(self, repository: str) -> list[str]:
        """The tags of a repository, sorted.

        Raises:
            RepositoryMissing: nothing has this name.
            PushError: it cannot be read.
        """
        return await (await self.source(repository)).tags()

    async def repositories(self) -> AsyncIterator[list[str]]:
        """All layouts, and all archives that are called so (``ARCHIVES``), a page at a time.

        What has a name that no repository can have is passed over.

        Raises:
            RegistryUnreachable: the folder is not there.
            Denied: a folder in it cannot be read.
        """
        found = self._walk()
        try:
            while page := await in_thread(lambda: list(islice(found, PAGE_SIZE))):
                yield page
        finally:
            found.close()

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

    def _walk(self) -> Generator[str, None, None]:
        with told(self.registry), self._folder.directory() as top:
            walk = os.fwalk(".", dir_fd=top, onerror=self._failed)
            for path, folders, files, directory in walk:
                here = path.removeprefix(".").removeprefix("/")
                folders[:] = sorted(f for f in folders if self._name(here, f))
                if here and {"index.json", "oci-layout"} <= set(files):
                    yield here
                for file in sorted(files):
                    name = self._name(here, file)
                    if name and file.endswith(ARCHIVES) and _is_regular(directory, file):
                        yield name

    def _failed(self, error: OSError) -> None:
        # What was there a moment ago may be gone.
        if not isinstance(error, FileNotFoundError):
            raise translate(error, f"a folder of {self.registry}") from error

    def _name(self, above: str, name: str) -> str:
        """The repository's name; empty: none can have it."""
        full = f"{above}/{name}" if above else name
        return full if name not in RESERVED and is_repository(full) else ""


def _is_regular(directory: int, name: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False
