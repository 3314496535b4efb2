"""Where a registry may lead the requests of one job, besides what its address allows.

A redirect and the place of an upload are a registry's word. Where accounts have rights, another
registry of the catalog is asked without a login then, and one that trusts the worker's network
would answer. Requests are sent deep below the code that knows the job, so the context carries the
rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from yarl import URL

from transship.errors import NotAllowed

#: Why a request of this method may not go to a URL that a registry leads to; ``None``: it may.
LedRule = Callable[[str, URL], str | None]

_rule: ContextVar[LedRule | None] = ContextVar("transship_led", default=None)


@contextmanager
def led_by(rule: LedRule | None) -> Iterator[None]:
    """Have all requests of a block, and of the tasks that it makes, obey a rule."""
    token = _rule.set(rule)
    try:
        yield
    finally:
        _rule.reset(token)


def check_led(registry: str, method: str, url: URL) -> None:
    """Return if a request may go where a registry leads it.

    Raises:
        NotAllowed: it may not.
    """
    rule = _rule.get()
    problem = rule(method, url) if rule is not None else None
    if problem is not None:
        raise NotAllowed(f"{registry} leads to another registry of the catalog: {problem}")
