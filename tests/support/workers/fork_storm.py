"""Forks a process whose threads submit all the time; run as a program by a test.

``python -m tests.support.workers.fork_storm URL NAMESPACE IMAGE``: prints a JSON object.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import threading

from transship import Client, Push, TransshipError
from transship_config.settings import Settings

#: Threads of the parent that submit, and how many children it forks.
THREADS, CHILDREN = 6, 40
#: Jobs that each child submits.
EACH = 2
#: How long a child may take. Unit: s.
WITHIN_S = 30


def main() -> int:
    """Run; the exit status is 0 also where children hang: what is printed says so."""
    url, namespace, image = sys.argv[1:]
    client = Client(url, settings=Settings.from_environment({"TRANSSHIP_NAMESPACE": namespace}))
    numbers = itertools.count()
    ended, errors, submitted = threading.Event(), [], []

    def submit() -> None:
        while not ended.is_set():
            try:
                submitted.append(client.push(f"{image}:p{next(numbers)}").id)
            except TransshipError as error:
                errors.append(repr(error))
                # As a connection that broke: the storm opens some while it forks.
                client.close()

    threads = [threading.Thread(target=submit) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    statuses = [_wait(_fork(client, f"{image}:c{child}")) for child in range(CHILDREN)]
    ended.set()
    for thread in threads:
        thread.join(WITHIN_S)
    hanging = sum(thread.is_alive() for thread in threads)
    found = {"statuses": statuses, "errors": errors, "submitted": submitted, "hanging": hanging}
    sys.stdout.write(json.dumps(found))
    sys.stdout.flush()
    os._exit(0)


def _fork(client: Client, image: str) -> int:
    """Fork a child that submits with the client of its parent; its process id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        signal.alarm(WITHIN_S)
        client.push_many([Push(f"{image}-{number}") for number in range(EACH)])
        status = 0
    finally:
        os._exit(status)


def _wait(child: int) -> int:
    """The exit status of a child, or the signal that ended it as a negative number."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    sys.exit(main())
