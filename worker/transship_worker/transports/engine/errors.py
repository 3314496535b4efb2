"""The one place where what the Docker SDK raises becomes a typed error.

An engine that dies shows as an error of whichever layer was reading: the SDK's own, of
requests, of urllib3, of the socket.
"""

from __future__ import annotations

import errno
import http.client
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import docker
import requests
import urllib3

from transship.errors import EngineUnavailable, PushError, PushRejected
from transship_worker.credentials.redaction import clean
from transship_worker.transports.engine.endpoint import Endpoint

T = TypeVar("T")

#: What can be raised while a call to the engine runs, besides ``docker.errors.APIError``.
TRANSPORT_ERRORS = (
    docker.errors.DockerException,
    docker.errors.StreamParseError,
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
    # The TLS layer's way to say that another thread closed the socket; and the SDK's, for an
    # answer or a config.json that is not what it should be.
    ValueError,
    KeyError,
)


@dataclass(frozen=True, slots=True)
class Named:
    """An engine as messages name it."""

    label: str
    endpoint: Endpoint


def asked(engine: Named, ask: Callable[[], T]) -> T:
    """Call the SDK; the engine's own failures become typed, its 404 stays.

    Raises:
        docker.errors.NotFound: the engine answered 404.
        PushRejected: it refused.
        EngineUnavailable: it failed, or does not answer.
    """
    try:
        with engine_errors(engine.label, engine.endpoint):
            return ask()
    except docker.errors.NotFound:
        raise
    except docker.errors.APIError as error:
        text = clean(str(error.explanation or error))
        kind: type[PushError] = EngineUnavailable if error.is_server_error() else PushRejected
        raise kind(f"engine {engine.label} refused: {text}") from None


@contextmanager
def engine_errors(name: str, endpoint: Endpoint) -> Iterator[None]:
    """Turn what the SDK raises into ``EngineUnavailable``; an ``APIError`` passes.

    An ``APIError`` is the engine's own answer, and means what the call asked for.
    """
    try:
        yield
    except docker.errors.APIError:
        raise
    except TRANSPORT_ERRORS as error:
        raise EngineUnavailable(f"engine {name} {_because(error, endpoint)}") from error


def _because(error: BaseException, endpoint: Endpoint) -> str:
    place = f"{endpoint.url} ({endpoint.origin})"
    chain = list(_chain(error))
    numbers = {cause.errno for cause in chain if isinstance(cause, OSError)}
    if errno.ENOENT in numbers or errno.ECONNREFUSED in numbers:
        return f"is not there: nothing answers at {place}; start it, or set DOCKER_HOST"
    if errno.EACCES in numbers:
        return f"cannot be used: permission denied on {place}; let this user open the socket"
    if any(isinstance(c, requests.Timeout | urllib3.exceptions.TimeoutError) for c in chain):
        return f"does not answer at {place}"
    told = (clean(text) for cause in reversed(chain) if (text := _told(cause)))
    return ": ".join([f"broke off at {place}", *list(told)[:1]])


def _told(cause: BaseException) -> str:
    """What an error says that helps a person; wrappers and parsers say nothing of use."""
    if isinstance(cause, requests.RequestException):
        return ""
    if isinstance(cause, docker.errors.DockerException):
        return str(cause)
    return cause.strerror or "" if isinstance(cause, OSError) else ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it wraps, outermost first; wrappers keep causes in ``args`` too."""
    seen: set[int] = set()
    waiting: list[BaseException] = [error]
    while waiting:
        current = waiting.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        inner = [current.__cause__, current.__context__, *current.args]
        inner.append(getattr(current, "reason", None))
        waiting += [one for one in inner if isinstance(one, BaseException)]
