"""Forks while another thread's first push loads a module; run as a program by a test.

``python -m tests.support.workers.fork_while_loading URL NAMESPACE IMAGE``: its exit status is that
of the child, which pushes, too; it is 1 where the child hung.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

from transship import Client
from transship_config.settings import Settings

#: The module that is loaded slowly, and for how long. Unit: s.
_SLOW, _FOR_S = "kombu.exceptions", 1.5
#: How long the child may take. Unit: s.
_WITHIN_S = 20


class _Slow:
    """An import that goes on until the process has forked, or a while."""

    def __init__(self) -> None:
        self.loading, self.forked = threading.Event(), threading.Event()

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find nothing; of the slow module, late."""
        if name == _SLOW:
            self.loading.set()
            self.forked.wait(_FOR_S)
        return None


def main() -> int:
    """Run."""
    url, namespace, image = sys.argv[1:]
    client = Client(url, settings=Settings.from_environment({"TRANSSHIP_NAMESPACE": namespace}))
    slow = _Slow()
    sys.meta_path.insert(0, slow)
    pushing = threading.Thread(target=client.push, args=[f"{image}:parent"])
    pushing.start()
    slow.loading.wait()
    child = os.fork()
    if not child:
        status = 1
        try:
            signal.alarm(_WITHIN_S)
            client.push(f"{image}:child")
            status = 0
        finally:
            os._exit(status)
    slow.forked.set()
    pushing.join()
    return 0 if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
