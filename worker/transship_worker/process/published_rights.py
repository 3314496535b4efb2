"""Publishes the rights of accounts, so that clients can refuse at submit what would fail."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from transship_worker.catalog.model import Components

if TYPE_CHECKING:
    from transship.ledger.keys import Keys

#: How often rights that did not change are written again, and how long they outlive their worker.
#: Units: s.
EVERY_S, LIVES_S = 20.0, 120


class PublishedRights:
    """Writes what each account of the catalogue may do, under a key that this account may read."""

    def __init__(self, components: Callable[[], Components], keys: Keys) -> None:
        self._components = components
        self._keys = keys
        self._version = ""
        self._due = 0.0

    def write(self, pipe: Any) -> None:
        """Add the commands to a pipeline, when it is time or the section changed."""
        components = self._components()
        accounts, version = components.accounts, components.rights_version
        now = time.monotonic()
        if accounts is None or (version == self._version and now < self._due):
            return
        self._version, self._due = version, now + EVERY_S
        for name, rights in accounts.items():
            pipe.set(self._keys.rights(name, version), rights.to_json(), ex=LIVES_S)
        pipe.set(self._keys.rights_index(version), json.dumps(sorted(accounts)), ex=LIVES_S)

    def again(self) -> None:
        """The last ones may not have been written."""
        self._due = 0.0
