"""Images in a Docker Engine: made from a seed, or from files of this machine. No registry helps."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Protocol

import docker

from tests.support.images.corpus import Layer

#: Where a real root file system is taken from, folder by folder in turns.
_FOLDERS: Final = ("/usr/lib", "/usr/bin", "/usr/share", "/usr/sbin", "/usr/include")
#: How long the engine may take to load an image. Unit: s.
_PATIENCE_S: Final = 3600


class Tar(Protocol):
    """A layer as the engine has it: not compressed."""

    @property
    def diff_id(self) -> str:
        """Digest of the tar."""

    @property
    def length(self) -> int:
        """Unit: bytes."""

    def write(self, file: IO[bytes]) -> None:
        """Write the tar."""


@dataclass(frozen=True)
class MadeTar:
    """The tar inside a layer of a corpus: bytes that do not compress."""

    layer: Layer

    @property
    def diff_id(self) -> str:
        """Digest of the tar."""
        return self.layer.diff_id

    @property
    def length(self) -> int:
        """Unit: bytes."""
        return sum(len(block) for block, _ in self.layer.blocks())

    def write(self, file: IO[bytes]) -> None:
        """Write the tar."""
        for block, _ in self.layer.blocks():
            file.write(block)


@dataclass(frozen=True)
class HeldTar:
    """A layer that the engine has: it does not look at what an archive has in its place."""

    diff_id: str
    length = 0

    def write(self, file: IO[bytes]) -> None:
        """Write nothing."""


class FileTar:
    """A tar that lies in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            self.diff_id = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        self.length = path.stat().st_size

    def write(self, file: IO[bytes]) -> None:
        """Write the tar."""
        with self._path.open("rb") as own:
            while piece := own.read(2**20):
                file.write(piece)


def load(client: docker.DockerClient, layers: Sequence[Tar], note: str) -> str:
    """Put an image into an engine and return its id; equal ones for equal notes and layers."""
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2026-01-01T00:00:00Z",
        "config": {"Labels": {"note": note}},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created": "2026-01-01T00:00:00Z", "created_by": note} for _ in layers],
    }
    body = json.dumps(config).encode()
    image_id = hashlib.sha256(body).hexdigest()
    names = [f"{number}/layer.tar" for number, _ in enumerate(layers)]
    listed = [{"Config": f"{image_id}.json", "RepoTags": None, "Layers": names}]
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            _add(tar, f"{image_id}.json", body)
            for name, layer in zip(names, layers, strict=True):
                entry = tarfile.TarInfo(name)
                entry.size = layer.length
                # The entry's bytes are written past the library, which wants to read them.
                file.write(entry.tobuf(tarfile.USTAR_FORMAT))
                layer.write(file)
                file.write(bytes(-entry.size % tarfile.BLOCKSIZE))
                tar.offset = file.tell()
            _add(tar, "manifest.json", json.dumps(listed).encode())
        file.seek(0)
        for event in client.api.load_image(file):  # type: ignore[no-untyped-call]
            assert "error" not in event, event
    return f"sha256:{image_id}"


def patient(client: docker.DockerClient) -> docker.DockerClient:
    """The same client, for images that take the engine long."""
    client.api.timeout = _PATIENCE_S
    return client


def root_file_system(path: Path, size: int) -> FileTar:
    """A tar of this machine's programs, libraries and texts, of about this size. Unit: bytes."""
    with tarfile.open(path, "w") as tar:
        for name in _in_turns([_files(Path(folder)) for folder in _FOLDERS]):
            if tar.offset >= size:
                break
            tar.add(name, recursive=False)
    return FileTar(path)


def _files(folder: Path) -> Iterator[Path]:
    """Files and links below, in order, so that one machine always gives the same ones."""
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            yield from _files(path)
        elif path.is_symlink() or path.is_file():
            yield path


def _in_turns(lists: Sequence[Iterator[Path]]) -> Iterator[Path]:
    waiting = list(lists)
    while waiting:
        for one in list(waiting):
            if (path := next(one, None)) is None:
                waiting.remove(one)
            else:
                yield path


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


def compressed(manifest: dict[str, Any]) -> int:
    """What the layers of an image take at the registry. Unit: bytes."""
    return sum(int(layer["size"]) for layer in manifest["layers"])
