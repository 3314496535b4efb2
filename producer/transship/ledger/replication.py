"""How many replicas have what was written: ``WAIT``, on the connection that wrote.

Redis answers a write before its replicas have it, and a failover forgets what the new primary
lacks. ``WAIT`` tells how many replicas have all that was written before it. It does not take a
write back, and a replica that acknowledged is not the one that is promoted for certain.
"""

from __future__ import annotations

from typing import Any, Final

#: How long replicas are waited for. Less than any reply is waited for. Unit: ms.
WAIT_MS: Final = 1000


def ask_replicas(pipe: Any, replicas: int, wait_ms: int) -> None:
    """Let the last reply of a pipeline be the number of replicas that have what it wrote."""
    pipe.execute_command("WAIT", replicas, wait_ms)
