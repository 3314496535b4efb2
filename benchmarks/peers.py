"""The other tools, as their users run them: whole processes, from start to end."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.servers import Place
from tests.support.corpus import Corpus, Image

SKOPEO_SYNC: Final = "skopeo sync"
SKOPEO_COPY: Final = "skopeo copy"
CURL: Final = "curl | curl"
#: The programs that the sides need.
PROGRAMS: Final = ("skopeo", "curl", "docker-registry", "redis-server")
#: Where `skopeo sync` puts repositories: it keeps the last part of their names only.
SYNCED: Final = "synced/"
_PLAIN: Final = ("--src-tls-verify=false", "--dest-tls-verify=false")


def missing() -> list[str]:
    """Programs that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


def skopeo_sync(source: Place, corpus: Corpus, target: Place) -> float:
    """All tags of the corpus's repositories, named one by one in a YAML file. Unit: s."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        names = "".join(f"    {name}: []\n" for name in corpus.repositories)
        file = Path(folder) / "sync.yml"
        file.write_text(f'"{source.address}":\n  tls-verify: false\n  images:\n{names}')
        words = ["skopeo", "--insecure-policy", "sync", "--src", "yaml", "--dest", "docker"]
        return _timed(
            [*words, "--dest-tls-verify=false", str(file), f"{target.address}/{SYNCED[:-1]}"]
        )


def skopeo_copy(source: Place, image: Image, target: Place) -> float:
    """One image. Unit: s."""
    names = [f"docker://{place.address}/{image.name}" for place in (source, target)]
    return _timed(["skopeo", "--insecure-policy", "copy", *_PLAIN, *names])


def curl_to_curl(source: Place, image: Image, target: Place) -> float:
    """The image's only layer, piped; neither verifies it but the registry. Unit: s."""
    (layer,) = image.layers
    script = (
        'place=$(curl -sSf -D - -o /dev/null -X POST "$2" | '
        "sed -n 's/^[Ll]ocation: *//p' | tr -d '\\r')\n"
        'curl -sSf "$1" | curl -sSf -o /dev/null -T - '
        '-H "Content-Type: application/octet-stream" "$place&digest=$3"'
    )
    pull = f"{source.base}/v2/{image.repository}/blobs/{layer.digest}"
    push = f"{target.base}/v2/{image.repository}/blobs/uploads/"
    return _timed(["sh", "-c", script, "sh", pull, push, layer.digest])


def _timed(command: Sequence[str]) -> float:
    begin = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    took = time.perf_counter() - begin
    assert done.returncode == 0, f"{' '.join(command[:4])} failed: {done.stderr[-2000:]}"
    return took
