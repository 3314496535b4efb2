"""Registries of a newer Debian, run on this machine by that release's dynamic loader."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.matrix.outcomes import log_of
from tests.matrix.roots import cache_folder, fresh_root

SUITE: Final = "forky"
#: Each program by its package.
PACKAGES: Final = {"docker-registry": "docker-registry", "crane": "crane"}
_EDITION: Final = 1
_AGE_S: Final = 30 * 86_400
_LIMIT_S: Final = 20 * 60
#: Copies each program, and the libraries that it is linked to, into ``/out``.
_COPY: Final = """\
set -eu
mkdir /out
for program; do
    path=$(command -v "$program")
    cp "$path" /out/
    ldd "$path" | tr ' ' '\\n' | grep ^/ | while read -r library; do
        cp -Lu "$library" /out/
    done
done
cp -L "$(echo /lib64/ld-linux-*.so.* /lib/ld-linux-*.so.* | tr ' ' '\\n' | grep -v '\\*' |
    head -n 1)" /out/loader
dpkg-query -W -f '${Package} ${Version}\\n' "$@" > /out/versions
"""


def words_of(name: str) -> list[str]:
    """The words that run a program; it is stored outside the checkout, and installed at first.

    Raises:
        OSError: It could not be installed.
    """
    folder = _stored()
    return [str(folder / "loader"), "--library-path", str(folder), str(folder / name)]


def version_of(name: str) -> str:
    """The version of its package."""
    for line in (_stored() / "versions").read_text().splitlines():
        package, _, version = line.partition(" ")
        if package == PACKAGES[name]:
            return version
    raise AssertionError(f"{name} has no version")


def _stored() -> Path:
    folder = cache_folder() / f"registries-{SUITE}-{_EDITION}"
    if folder.exists() and time.time() - folder.stat().st_mtime < _AGE_S:
        return folder
    log = log_of("registries-install")
    with fresh_root(SUITE) as root, log.open("wb") as output:
        packages = sorted(set(PACKAGES.values()))
        script = (
            "apt-get update -q && DEBIAN_FRONTEND=noninteractive "
            f"apt-get install -y -q --no-install-recommends {' '.join(packages)}"
        )
        for words in (["sh", "-c", script], ["sh", "-c", _COPY, "sh", *PACKAGES]):
            status = root.run(words, folder="/", environment={}, output=output, timeout_s=_LIMIT_S)
            if status:
                raise OSError(f"the registries of {SUITE} could not be installed; see {log}")
        with tempfile.TemporaryDirectory(dir=cache_folder()) as name:
            made = Path(name) / "made"
            shutil.copytree(root.folder / "out", made)
            shutil.rmtree(folder, ignore_errors=True)
            made.rename(folder)
    return folder
