"""Lets every ``push_image`` be called with a transport and without one.

The worker passes the transport of its job. ZenML's signature, ``push_image(image_name)``, has
none, and a flavor may require one: each may override ``push_image`` and be called both ways.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, Protocol

from transship_worker.transports.port import PushTransport

if TYPE_CHECKING:
    from transship_worker.oci.endpoint import Endpoint


class Component(Protocol):
    """A registry component, as far as a transport is made for it."""

    @property
    def registry_endpoint(self) -> Endpoint:
        """How the registry's API is reached."""


#: The registry whose override runs in this context, and the transport of that push.
_running: Final[ContextVar[tuple[Component, PushTransport] | None]] = ContextVar(
    "transship_running_push", default=None
)


def transport_for(registry: Component, transport: PushTransport | None) -> PushTransport:
    """The transport of one call of a registry's ``push_image``.

    It is the one that was passed, else the one of the override that makes this call, else the
    Docker Engine that the ``docker`` command would use.
    """
    if transport is not None:
        return transport
    running = _running.get()
    # An override may push to another registry too, which has nothing to do with this job.
    if running is not None and running[0] is registry:
        return running[1]
    # Imported here: the Docker SDK is loaded by the first push, not by a flavor.
    from transship_worker.transports.engine_without_job import EngineTransport

    return EngineTransport(lambda: registry.registry_endpoint)


def with_any_transport(override: Callable[..., str]) -> Callable[..., str]:
    """A flavor's own ``push_image``, which can then be called with and without ``transport``."""
    parameters = inspect.signature(override).parameters
    takes_transport = "transport" in parameters or any(
        parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()
    )

    @wraps(override)
    def push_image(
        self: Component, image_name: str, *, transport: PushTransport | None = None
    ) -> str:
        chosen = transport_for(self, transport)
        options: dict[str, Any] = {"transport": chosen} if takes_transport else {}
        token = _running.set((self, chosen))
        try:
            return override(self, image_name, **options)
        finally:
            _running.reset(token)

    return push_image
