"""Reading the event stream of a push: progress, the digest, and errors inside a 200.

The events are those of moby ``pkg/jsonmessage`` and, in ``aux``, ``api/types/auxprogress``. With
the containerd image store, and from Podman, the digest comes in a status line only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from transship.model.records import Progress
from transship_worker.oci.digests import is_digest

#: Statuses of a layer that will need no more bytes.
_DONE: Final = ("Pushed", "Layer already exists", "Mounted from", "Skipped", "Already exists")
#: Statuses of a layer that this push brought there.
_NEW: Final = ("Pushed", "Mounted from")
#: Statuses of a layer that is still to be dealt with.
_OPEN: Final = ("Preparing", "Waiting", "Pushing", "Retrying", "Unavailable")

#: Layers whose progress is followed, and the longest id of one; others are not counted. Docker's
#: ids are 12 characters long, those of the containerd image store have a digest in them.
MOST_LAYERS: Final = 10_000
LONGEST_ID: Final = 256
#: What is kept of an engine's error. Unit: characters.
LONGEST_ERROR: Final = 16_384

#: The last status of a push, under no layer's name (moby ``distribution/push_v2.go`` and
#: ``daemon/containerd/image_push.go``; Podman ``pkg/api/handlers/compat/images_push.go``).
_PUSHED: Final = re.compile(r"\S{1,128}: digest: (\S{1,256})(?: size: \d+)?\s*", re.ASCII)


@dataclass(slots=True)
class _Layer:
    done: bool = False
    #: This push brought it there.
    brought: bool = False
    seen: int = 0
    total: int = 0
    #: Whether the engine ever said how much there is.
    stated: bool = False

    @property
    def bytes_done(self) -> int:
        return self.total if self.done else min(self.seen, self.total)

    @property
    def sent(self) -> tuple[int, int]:
        """What the engine sends or has sent of it, and how much went. Unit: bytes."""
        return (self.total, self.bytes_done) if self.stated else (0, 0)


class PushStream:
    """What the events so far come to.

    The engine counts a layer's bytes with tar's padding and against the size of its files, so
    that its counts exceed its totals; and it starts from zero when it retries a layer. Here no
    number ever goes backwards, and none exceeds its total.
    """

    def __init__(self) -> None:
        #: Digest of the manifest or index that the engine says it pushed.
        self.digest: str | None = None
        #: The index of which the engine pushed one platform's manifest instead: engines with
        #: the containerd image store do so when they hold not all of an index.
        self.instead_of: str | None = None
        #: The manifest that it pushed instead.
        self.selected: str | None = None
        #: The engine's words for why it failed.
        self.error: str | None = None
        self._layers: dict[str, _Layer] = {}
        # Counted with each event: adding up all layers each time costs their number squared.
        self._progress = Progress()
        self._new = (0, 0)

    @property
    def progress(self) -> Progress:
        """How far the push is; beyond ``MOST_LAYERS`` layers are not counted."""
        return self._progress

    @property
    def brought(self) -> int:
        """Layers that this push brought to the repository."""
        return sum(layer.brought for layer in self._layers.values())

    @property
    def new(self) -> tuple[int, int]:
        """Bytes of the layers that the engine sends or has sent, and how many went. Unit: bytes."""
        return self._new

    def feed(self, event: Mapping[str, Any]) -> None:
        """Take in one event; one that is not understood changes nothing."""
        error = event.get("error")
        detail = event.get("errorDetail")
        if isinstance(detail, Mapping) and detail.get("message"):
            error = detail["message"]
        if error and self.error is None:
            self.error = str(error)[:LONGEST_ERROR]
        aux = event.get("aux")
        if isinstance(aux, Mapping):
            self._take_aux(aux)
        name, status = event.get("id"), event.get("status")
        if isinstance(name, str) and isinstance(status, str):
            self._take_status(name, status, event.get("progressDetail"))
        elif isinstance(status, str) and not name:
            self._take_digest(status)

    def _take_digest(self, status: str) -> None:
        found = _PUSHED.fullmatch(status)
        if found and is_digest(found[1]):
            self.digest = found[1]

    def _take_aux(self, aux: Mapping[str, Any]) -> None:
        digest = aux.get("Digest")
        if isinstance(digest, str) and is_digest(digest):
            self.digest = digest
        index = aux.get("originalIndex")
        if aux.get("manifestPushedInsteadOfIndex") is True and isinstance(index, Mapping):
            self.instead_of = str(index.get("digest"))
            manifest = aux.get("selectedManifest")
            if isinstance(manifest, Mapping):
                self.selected = str(manifest.get("digest"))

    def _take_status(self, name: str, status: str, detail: object) -> None:
        if not status.startswith(_DONE + _OPEN):
            return
        layer = self._layers.get(name)
        if layer is None:
            if len(self._layers) >= MOST_LAYERS or len(name) > LONGEST_ID:
                return
            layer = self._layers[name] = _Layer()
        old = replace(layer)
        self._take_layer(layer, status, detail)
        self._count(old, layer)

    def _count(self, old: _Layer, new: _Layer) -> None:
        """Count what changed of a layer."""
        before = self._progress
        self._progress = Progress(
            bytes_done=before.bytes_done + new.bytes_done - old.bytes_done,
            bytes_total=before.bytes_total + new.total - old.total,
            layers_done=before.layers_done + new.done - old.done,
            layers_total=len(self._layers),
        )
        (total, done), (old_total, old_done) = new.sent, old.sent
        self._new = (self._new[0] + total - old_total, self._new[1] + done - old_done)

    def _take_layer(self, layer: _Layer, status: str, detail: object) -> None:
        if status.startswith(_DONE):
            layer.done = True
            layer.brought = layer.brought or status.startswith(_NEW)
        elif isinstance(detail, Mapping) and not layer.done:
            current, total = _count(detail.get("current")), _count(detail.get("total"))
            layer.seen = max(layer.seen, current)
            layer.stated = layer.stated or total > 0
            # Without a total, what has gone is all that is known to be there.
            layer.total = max(layer.total, total if layer.stated else layer.seen)


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
