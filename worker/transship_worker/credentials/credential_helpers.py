"""Credential helpers: programs that keep logins for the ``docker`` command and for Podman.

Protocol: github.com/docker/docker-credential-helpers. A helper reads a registry's name from
standard input and writes JSON, or an error's text, to standard output. Time and bytes are
bounded here, and nothing of a helper's output is shown: an error may quote a secret.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Final

from pydantic import SecretStr

from transship.errors import CredentialsMissing
from transship_worker.credentials.access import Credentials

#: The largest output that is read; an access token has a few kilobytes. Unit: bytes.
OUTPUT_LIMIT: Final = 65_536
#: What a helper says when it has no login: a part of the protocol.
_NOT_FOUND: Final = b"credentials not found"


def ask(name: str, server: str, *, timeout_s: float) -> Credentials | None:
    """Run ``docker-credential-NAME get`` for a server; ``None``: it has no login there.

    Raises:
        CredentialsMissing: the helper is not installed, failed, was too slow, or its answer
            cannot be read. The message names the helper and holds none of its output.
    """
    program = f"docker-credential-{name}"
    path = None if "/" in name or os.sep in name else shutil.which(program)
    if path is None:
        raise CredentialsMissing(f"its credential helper {program} is not on the PATH")
    try:
        status, output = _run(path, server, timeout_s)
    except TimeoutError:
        raise CredentialsMissing(
            f"its credential helper {program} gave no answer in {timeout_s:g} s"
        ) from None
    except OSError as error:
        raise CredentialsMissing(f"{program} cannot be run: {error.strerror}") from None
    if len(output) > OUTPUT_LIMIT:
        raise CredentialsMissing(
            f"{program} wrote more than {OUTPUT_LIMIT} bytes for {server}, which are not read"
        )
    if status != 0:
        if _NOT_FOUND in output.lower():
            return None
        raise CredentialsMissing(f"{program} failed with status {status} for {server}")
    try:
        answer = json.loads(output)
        username, secret = answer["Username"], answer["Secret"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CredentialsMissing(f"{program} gave no login that can be read for {server}") from None
    # docker-credential-pass answers so when it has none.
    return Credentials(str(username), SecretStr(str(secret))) if secret else None


def _run(path: str, server: str, timeout_s: float) -> tuple[int, bytes]:
    """Exit status and output; of the output at most one byte more than the limit.

    Raises:
        TimeoutError: the program, or one that it started, still runs.
        OSError: the program cannot be started.
    """
    end = time.monotonic() + timeout_s
    process = subprocess.Popen(
        [path, "get"],
        stdin=subprocess.PIPE,
        # Errors are on standard output, too. What else a helper says is for nobody here.
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # It logs in to a registry; how to reach the queue is not for it.
        env={n: value for n, value in os.environ.items() if not n.startswith("TRANSSHIP_")},
        # A group of its own, so that what it starts ends with it.
        start_new_session=sys.platform != "win32",
    )
    output = bytearray()
    reader = threading.Thread(target=_exchange, args=(process, server, output), daemon=True)
    reader.start()
    try:
        reader.join(timeout_s)
        if reader.is_alive():
            raise TimeoutError
        if len(output) > OUTPUT_LIMIT:
            return -1, bytes(output)
        # It closed its output, so that it ends now.
        return process.wait(max(end - time.monotonic(), 0.1)), bytes(output)
    except subprocess.TimeoutExpired:
        raise TimeoutError from None
    finally:
        if process.returncode is None:
            _end(process)


def _exchange(process: subprocess.Popen[bytes], server: str, output: bytearray) -> None:
    """Write the server's name and read the output, in a thread: both may block."""
    stdin, stdout = process.stdin, process.stdout
    if stdin is None or stdout is None:
        return
    # Closed here alone: a descriptor that is read must not be closed by another thread.
    with suppress(OSError), stdout:
        # A helper may end without reading.
        with suppress(OSError), stdin:
            stdin.write(server.encode())
        while len(output) <= OUTPUT_LIMIT:
            piece = os.read(stdout.fileno(), OUTPUT_LIMIT + 1 - len(output))
            if not piece:
                break
            output += piece


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the program and what it started, and collect its status."""
    if sys.platform != "win32":
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
    with suppress(OSError):
        process.kill()
    process.wait()
