"""What ``transship registry check`` tries, and in which words it tells the outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transship.errors import Denied, EngineMisconfigured, EngineUnavailable, PushRejected
from transship.model.references import ImageReference
from transship_config.errors import TransshipError
from transship_worker.credentials.access import Credentials
from transship_worker.credentials.docker_config import IDENTITY_USER, key_of
from transship_worker.flavors.base import BaseContainerRegistry
from transship_worker.flavors.layout import LayoutRegistry

if TYPE_CHECKING:
    from transship.model.engines import EngineInfo
    from transship_worker.transports.engine.client import Engine

#: A name that nobody pushes; a registry that does not know it has answered.
_PROBE = "transship-check"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One line of the report."""

    #: ``ok``, ``FAIL``, or ``-`` for what could not be tried.
    verdict: str
    subject: str
    text: str


def run_checks(
    registry: BaseContainerRegistry, *, engine_name: str | None
) -> Iterator[CheckResult]:
    """Try a component, one thing after the other; nothing is changed anywhere.

    Without an engine the registry is asked directly, as copies do it.
    """
    if isinstance(registry, LayoutRegistry):
        yield _folder(registry)
        return
    credentials: Credentials | None = None
    try:
        credentials = registry.credentials()
        yield CheckResult("ok", "credentials", _told(credentials))
        have_credentials = True
    except TransshipError as error:
        have_credentials = False
        yield CheckResult("FAIL", "credentials", registry.redacted(error.message))
    except Exception as error:  # noqa: BLE001 - a custom flavor may raise anything
        have_credentials = False
        said = registry.redacted(f"{type(error).__name__}: {error}")
        yield CheckResult("FAIL", "credentials", said)
    if engine_name is None:
        yield _answer(lambda: _ask_directly(registry, credentials), have_login=have_credentials)
        return
    try:
        engine = _engine(engine_name)
        info = _described(engine)
        about = f": {info.title}: {info.support}" if info is not None else ""
        yield CheckResult("ok", "engine", f"{engine.name} at {engine.endpoint.url}{about}")
        missing = engine.missing_settings(registry.registry_uri, registry.access)
    except TransshipError as error:
        yield CheckResult("FAIL", "engine", error.message)
        text = "not asked: it is reached through the engine; --no-engine asks it as copies do"
        yield CheckResult("-", "registry", text)
        return
    for sentence in missing:
        yield CheckResult("FAIL", "settings", sentence)
    if not missing:
        yield CheckResult("ok", "settings", "the engine lacks none that can be seen from here")
    if info is not None and not info.asks_registries:
        # Its 404 for such a question says nothing of the registry.
        yield _answer(
            lambda: f"{_ask_directly(registry, credentials)}: {info.product} cannot ask it",
            have_login=have_credentials,
        )
        return
    yield _answer(lambda: _ask(engine, registry, credentials), have_login=have_credentials)


def _described(engine: Engine) -> EngineInfo | None:
    """What the engine is; ``None``: it answers, and refuses to say.

    Raises:
        EngineUnavailable: it does not answer.
    """
    from transship_worker.transports.engine.describe import describe

    try:
        return describe(engine)
    except PushRejected:
        return None


def _answer(ask: Callable[[], str], *, have_login: bool) -> CheckResult:
    if not have_login:
        return CheckResult("-", "registry", "not asked: there are no credentials for it")
    try:
        return CheckResult("ok", "registry", ask())
    except TransshipError as error:
        return CheckResult("FAIL", "registry", error.message)


def _ask_directly(registry: BaseContainerRegistry, credentials: Credentials | None) -> str:
    """Ask the registry for its API with the login.

    Raises:
        TransshipError: it did not answer, or refused the login.
    """
    from transship_worker.oci.pool import ClientPool

    async def ask() -> None:
        async with ClientPool() as pool:
            await pool.client(registry.registry_endpoint, credentials).ping()

    asyncio.run(ask())
    return f"{registry.registry_uri.registry} answers, without an engine"


def _folder(registry: LayoutRegistry) -> CheckResult:
    """A folder has neither a login nor an engine that would push to it."""
    try:
        writable = asyncio.run(registry.layouts.check())
    except TransshipError as error:
        return CheckResult("FAIL", "folder", error.message)
    text = "it can be read and written" if writable else "it can be read, and not be written"
    return CheckResult("ok", "folder", text)


def require_engine_settings(
    registry: BaseContainerRegistry, engine_name: str, warn: Callable[[str], None]
) -> None:
    """Compare what the component says with what the engine trusts, before anything is created.

    Raises:
        EngineMisconfigured: naming each setting that the engine lacks.
    """
    if registry.access.is_plain:
        return
    try:
        missing = _engine(engine_name).missing_settings(registry.registry_uri, registry.access)
    except EngineUnavailable as error:
        warn(f"warning: the engine's settings were not compared: {error.message}")
        return
    if missing:
        raise EngineMisconfigured("; ".join(missing))


def _engine(name: str) -> Engine:
    from transship_worker.transports.engine.client import find_engine

    return find_engine(name=name)


def _told(credentials: Credentials | None) -> str:
    if credentials is None:
        return "none: the component has no login"
    until = f", until {credentials.expires_at:%Y-%m-%d %H:%M %Z}" if credentials.expires_at else ""
    if credentials.username == IDENTITY_USER:
        return f"an identity token{until}"
    return f"user {credentials.username}{until}"


def _ask(engine: Engine, registry: BaseContainerRegistry, credentials: Credentials | None) -> str:
    """Let the engine ask the registry for a tag that need not exist.

    Raises:
        TransshipError: it did not answer, or refused the login.
    """
    probe = ImageReference.parse(f"{registry.uri}/{_PROBE}:latest")
    try:
        engine.remote_digest(probe, credentials)
    except Denied:
        if credentials is None or credentials.username == IDENTITY_USER:
            raise
        # Some registries deny what does not exist, so the login is tried by itself.
        _log_in(engine, probe, credentials)
        return f"{probe.registry} accepts the login; what it may push shows with the first push"
    return f"{probe.registry} answers"


def _log_in(engine: Engine, probe: ImageReference, credentials: Credentials) -> None:
    """``POST /auth`` of the engine: it tries the login and keeps nothing."""
    import docker

    from transship_worker.transports.engine.errors import engine_errors
    from transship_worker.transports.engine.push_errors import Spoken, translate

    with engine.line() as line:
        # Not APIClient.login(), which reads this host's config.json.
        client: Any = line
        login = {
            "username": credentials.username,
            "password": credentials.password.get_secret_value(),
            "serveraddress": key_of(probe.registry),
        }
        try:
            with engine_errors(engine.label, engine.endpoint):
                client._result(client._post_json(client._url("/auth"), data=login), json=True)
        except docker.errors.APIError as error:
            text = str(error.explanation or error)
            raise translate(text, Spoken(engine.label, probe, credentials)) from None
