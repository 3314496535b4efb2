"""A folder that nothing leads out of: each part of a path is opened by itself, no link followed.

Checking a path first and opening it then would leave a moment in which a part can be exchanged
for a link. Symbolic links are refused wherever they lead, also inside the folder: that rule can
be seen at one place, and no tool needs them in a layout. The folder's own path comes from the
catalogue and may hold links.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from transship.errors import (
    Denied,
    NotAllowed,
    NotUnderRegistry,
    PushError,
    PushRejected,
    RegistryUnavailable,
    RegistryUnreachable,
    RepositoryMissing,
)
from transship_worker.oci.names import is_repository

#: Names that a layout itself uses (OCI image-spec, image-layout.md): no part of a repository.
RESERVED: Final = frozenset({"blobs", "index.json", "oci-layout"})

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
#: Opening a named pipe would wait for its writer.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_RIGHT: Final = frozenset({errno.EACCES, errno.EPERM})


class Folder:
    """The folder of one component."""

    def __init__(self, path: Path, registry: str) -> None:
        """``registry`` is what it is called in references and messages."""
        self.path = path
        self.registry = registry

    def name(self, repository: str) -> str:
        """A repository, for messages."""
        return f"{self.registry}/{repository}"

    def parts(self, repository: str) -> tuple[str, ...]:
        """The folders that lead to a repository.

        Raises:
            NotUnderRegistry: no repository can be called so.
        """
        parts = tuple(repository.split("/"))
        if not is_repository(repository):
            raise NotUnderRegistry(f"{self.name(repository)!a} is no name of a repository")
        taken = sorted(RESERVED.intersection(parts))
        if taken:
            raise NotUnderRegistry(
                f"{self.name(repository)} has a part {taken[0]!r}, which is a layout's own; "
                "use another name"
            )
        return parts

    @contextmanager
    def directory(self, *parts: str, create: bool = False) -> Iterator[int]:
        """A directory in the folder, open while the block runs.

        Raises:
            NotAllowed: a part is a symbolic link.
            FileNotFoundError, NotADirectoryError: it is not there, or is a file.
        """
        current = self._root()
        try:
            for depth, part in enumerate(parts):
                below = self._enter(current, part, "/".join(parts[: depth + 1]), create)
                os.close(current)
                current = below
            yield current
        finally:
            os.close(current)

    def open_file(self, directory: int, name: str, what: str) -> int:
        """A regular file, opened for reading; the caller closes it.

        Raises:
            NotAllowed: it is a symbolic link, or another kind of file.
            FileNotFoundError: it is not there.
        """
        try:
            found = os.open(name, _FILE, dir_fd=directory)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise self._link(what) from None
            if error.errno == errno.ENXIO:
                raise self._not_regular(what) from None
            raise
        if not stat.S_ISREG(os.fstat(found).st_mode):
            os.close(found)
            raise self._not_regular(what)
        return found

    def _root(self) -> int:
        try:
            return os.open(self.path, _DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            # It may be mounted later.
            raise RegistryUnreachable(
                f"the folder of {self.registry} is not there on this worker; create or mount it"
            ) from None

    def _enter(self, current: int, part: str, what: str, create: bool) -> int:
        if create:
            with suppress(FileExistsError):
                os.mkdir(part, dir_fd=current)
                os.fsync(current)
        try:
            return os.open(part, _DIRECTORY | os.O_NOFOLLOW, dir_fd=current)
        except OSError as error:
            # What a link gives here differs between systems: ELOOP, ENOTDIR, EMLINK.
            if error.errno != errno.ENOENT and self._is_link(current, part):
                raise self._link(what) from None
            raise

    def _is_link(self, directory: int, name: str) -> bool:
        try:
            return stat.S_ISLNK(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return False

    def _link(self, what: str) -> NotAllowed:
        return NotAllowed(
            f"{self.name(what)} is a symbolic link; layout folders are read without following "
            "any: put the files themselves there"
        )

    def _not_regular(self, what: str) -> NotAllowed:
        return NotAllowed(f"{self.name(what)} is no regular file; it is not read")


@contextmanager
def told(what: str) -> Iterator[None]:
    """An error of the file system becomes a typed one while the block runs."""
    try:
        yield
    except OSError as error:
        raise translate(error, what) from error


def translate(error: OSError, what: str) -> PushError:
    """An error of the file system as ours; ``what`` names the repository or what is in it."""
    said = error.strerror or type(error).__name__
    if error.errno in {errno.ENOENT, errno.ENOTDIR}:
        return RepositoryMissing(f"there is no {what}")
    if error.errno in _NO_RIGHT:
        return Denied(f"{what}: the worker's user has no right to that on its host: {said}")
    if error.errno in _FULL:
        return RegistryUnavailable(f"{what}: the worker's disk is full: {said}")
    if error.errno in {errno.EROFS, errno.ENAMETOOLONG}:
        return PushRejected(f"{what} cannot be written: {said}")
    return RegistryUnavailable(f"{what}: the worker's file system failed: {said}")
