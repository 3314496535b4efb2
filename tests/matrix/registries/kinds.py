"""The registries of the matrix, and where each differs from what most do."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from tests.matrix.registries import programs
from tests.matrix.registries.wire import Authorize, Served, Wire
from tests.support.servers.crane import CraneRegistry
from tests.support.servers.ecr import (
    ACCOUNT,
    KEY_ID,
    REGION,
    REGISTRY_PASSWORD,
    REGISTRY_USER,
    SECRET,
    Moto,
)
from tests.support.servers.registry import Registry
from tests.support.servers.token_server import TokenServer
from tests.support.strict_registry.registry import Rules, StrictRegistry, TokenRules

USER: Final = "mover"
PASSWORD: Final = "correct horse battery staple"
#: The path under which all repositories of the matrix are.
NAMESPACE: Final = "lab"
#: The variable of the workers that has the password.
PASSWORD_VARIABLE: Final = "LAB_PASSWORD"
_RIGHTS: Final = {"pull", "push", "delete", "*"}
BELOW: Final = "/below/a/path"


class Trait(StrEnum):
    """What a case needs of a registry."""

    WRITES = "takes no writes"
    NO_WRITES = "takes writes"
    LOGIN = "has no login"
    PASSWORD = "has no login of its own"
    ENGINE = "is below a path, where no engine pushes"
    DELETES = "deletes no manifests"
    MOUNTS = "mounts nothing"
    CATALOG = "has a list of repositories of its own"
    CHUNKS = "takes no chunks"


#: Of most registries.
USUAL: Final = frozenset(Trait) - {Trait.NO_WRITES, Trait.LOGIN, Trait.PASSWORD}
_WITH_LOGIN: Final = USUAL | {Trait.LOGIN, Trait.PASSWORD}


#: Repository, tags, and the digest that they get.
Tagger = Callable[[str, Iterable[str], str], None]


@dataclass
class Running:
    """A registry that runs for all its cases."""

    #: ``host:port``.
    address: str
    #: Reads what it gives, and writes to it if it takes writes.
    wire: Wire
    #: Options of its component besides ``uri``.
    component: dict[str, Any] = field(default_factory=dict)
    #: Where content for it is put, where that is elsewhere.
    filled_by: Wire | None = None
    #: Told of each repository that content is put into.
    creates: Callable[[str], None] = lambda _: None
    password: str = PASSWORD
    #: Gives a manifest many tags, faster than by requests.
    tags_fast: Tagger | None = None

    @property
    def filler(self) -> Wire:
        """Puts content into it."""
        return self.filled_by or self.wire

    def tag(self, repository: str, tags: Iterable[str], digest: str, served: Served) -> None:
        """Give a manifest many tags."""
        if self.tags_fast is not None:
            self.tags_fast(repository, tags, digest)
            return
        for tag in tags:
            self.filler.put_manifest(repository, tag, served)


@dataclass(frozen=True)
class RegistryKind:
    """A registry, and how it is known to answer."""

    name: str
    title: str
    start: Callable[[ExitStack], Running]
    traits: frozenset[Trait] = USUAL
    #: The path before ``/v2/``.
    prefix: str = ""
    #: By case: the code of the error that is right there.
    refusals: Mapping[str, str] = field(default_factory=dict)


def basic(user: str, password: str) -> Authorize:
    """Basic authentication."""
    login = base64.b64encode(f"{user}:{password}".encode()).decode()
    return lambda *_: {"Authorization": f"Basic {login}"}


def _links(data: Path) -> Tagger:
    """Tags as the files that they are in the data folder of a distribution."""

    def tag(repository: str, tags: Iterable[str], digest: str) -> None:
        names = data / "docker/registry/v2/repositories" / repository / "_manifests/tags"
        for name in tags:
            for place in ("current", f"index/{digest.replace(':', '/')}"):
                link = names / name / place / "link"
                link.parent.mkdir(parents=True, exist_ok=True)
                link.write_text(digest)

    return tag


def _stored(registry: StrictRegistry) -> Tagger:
    """Tags in the memory of a strict registry."""

    def tag(repository: str, tags: Iterable[str], digest: str) -> None:
        registry.store.repository(repository).tags.update(dict.fromkeys(tags, digest))

    return tag


def _login(user: str = USER) -> dict[str, Any]:
    return {"username": user, "password": {"env": PASSWORD_VARIABLE}}


def _anonymous(stack: ExitStack) -> Running:
    registry = stack.enter_context(Registry())
    return Running(registry.address, Wire(registry.base), tags_fast=_links(registry.data))


def _newer(stack: ExitStack) -> Running:
    registry = stack.enter_context(Registry(words=programs.words_of("docker-registry")))
    return Running(registry.address, Wire(registry.base), tags_fast=_links(registry.data))


def _htpasswd(stack: ExitStack) -> Running:
    registry = stack.enter_context(Registry(users={USER: PASSWORD}))
    wire = Wire(registry.base, basic(USER, PASSWORD))
    return Running(registry.address, wire, _login(), tags_fast=_links(registry.data))


def _tokens(stack: ExitStack) -> Running:
    folder = Path(stack.enter_context(_folder()))
    server = stack.enter_context(TokenServer(folder, {USER: PASSWORD}, rights={USER: _RIGHTS}))
    registry = stack.enter_context(Registry(tokens=server))

    def authorize(repository: str, actions: str) -> Mapping[str, str]:
        token = server.token(USER, [f"repository:{repository}:{actions}"])["token"]
        return {"Authorization": f"Bearer {token}"}

    wire = Wire(registry.base, authorize)
    return Running(registry.address, wire, _login(), tags_fast=_links(registry.data))


def _below(stack: ExitStack) -> Running:
    registry = stack.enter_context(Registry(prefix=f"{BELOW}/"))
    wire = Wire(f"{registry.base}{BELOW}")
    return Running(registry.address, wire, tags_fast=_links(registry.data))


def _read_only(stack: ExitStack) -> Running:
    writer = stack.enter_context(Registry())
    registry = stack.enter_context(Registry(data=writer.data, maintenance_read_only=True))
    filled_by = Wire(writer.base)
    return Running(
        registry.address, Wire(registry.base), filled_by=filled_by, tags_fast=_links(writer.data)
    )


def _pull_through(stack: ExitStack) -> Running:
    upstream = stack.enter_context(Registry())
    registry = stack.enter_context(Registry(upstream=upstream.base))
    filled_by = Wire(upstream.base)
    return Running(
        registry.address, Wire(registry.base), filled_by=filled_by, tags_fast=_links(upstream.data)
    )


def _crane(stack: ExitStack) -> Running:
    registry = stack.enter_context(CraneRegistry(programs.words_of("crane")))
    return Running(registry.address, Wire(registry.base))


def _ecr(stack: ExitStack) -> Running:
    moto = stack.enter_context(Moto())
    registry = stack.enter_context(Registry(users={REGISTRY_USER: REGISTRY_PASSWORD}))
    known: set[str] = set()

    def creates(repository: str) -> None:
        if repository not in known:
            moto.client().create_repository(repositoryName=repository)
            known.add(repository)

    component = {
        "flavor": "aws",
        "account": ACCOUNT,
        "region": REGION,
        "endpoint_url": moto.url,
        "access_key_id": KEY_ID,
        "secret_access_key": {"env": PASSWORD_VARIABLE},
    }
    wire = Wire(registry.base, basic(REGISTRY_USER, REGISTRY_PASSWORD))
    return Running(
        registry.address,
        wire,
        component,
        creates=creates,
        password=SECRET,
        tags_fast=_links(registry.data),
    )


def _strict(stack: ExitStack) -> Running:
    registry = stack.enter_context(StrictRegistry(Rules(redirect=True, mounts_need_manifest=True)))
    return Running(registry.address, Wire(registry.base), tags_fast=_stored(registry))


def _awkward(stack: ExitStack) -> Running:
    """Everything that a registry may leave out or insist on."""
    tokens = TokenRules({USER: PASSWORD}, lifetime_s=60)
    rules = Rules(
        mounts=False, redirect=True, referrers=False, chunks=False, page_size=100,
        ranges=False, etags=False, tokens=tokens,
    )  # fmt: skip
    registry = stack.enter_context(StrictRegistry(rules))

    def authorize(repository: str, _: str) -> Mapping[str, str]:
        return registry.authorize(repository)

    wire = Wire(registry.base, authorize)
    return Running(registry.address, wire, _login(), tags_fast=_stored(registry))


def _folder() -> Any:
    import tempfile

    return tempfile.TemporaryDirectory(prefix="ts-")


#: distribution 2.8 takes no digest but sha256 for a manifest, and no foreign layer unless its
#: configuration allows the URL.
_DISTRIBUTION: Final = {
    "sha512-manifest": "digest_invalid",
    "foreign-held": "foreign_layers_refused",
    "foreign-reference": "foreign_layers_refused",
}
_SOURCE_ONLY: Final = (USUAL - {Trait.WRITES, Trait.DELETES, Trait.MOUNTS}) | {Trait.NO_WRITES}

KINDS: Final = (
    RegistryKind("distribution", "distribution 2.8.2", _anonymous, USUAL, refusals=_DISTRIBUTION),
    RegistryKind("distribution-2.8.3", "distribution 2.8.3", _newer, USUAL, refusals=_DISTRIBUTION),
    RegistryKind(
        "htpasswd",
        "distribution, Basic",
        _htpasswd,
        _WITH_LOGIN,
        refusals=_DISTRIBUTION,
    ),
    RegistryKind(
        "tokens",
        "distribution, token server",
        _tokens,
        _WITH_LOGIN,
        refusals=_DISTRIBUTION,
    ),
    RegistryKind(
        "below-a-path",
        "distribution below a path",
        _below,
        USUAL - {Trait.ENGINE},
        prefix=BELOW,
        refusals=_DISTRIBUTION,
    ),
    RegistryKind("read-only", "distribution, read-only", _read_only, _SOURCE_ONLY),
    RegistryKind(
        "pull-through",
        "distribution, pull-through",
        _pull_through,
        # Its list has what was pulled through it.
        _SOURCE_ONLY - {Trait.CATALOG},
    ),
    RegistryKind(
        "crane",
        "crane 0.20",
        _crane,
        USUAL - {Trait.MOUNTS},
        refusals={"sha512-layer": "digest_invalid", "sha512-manifest": "digest_invalid"},
    ),
    RegistryKind(
        "ecr",
        "ECR (moto and distribution)",
        _ecr,
        (USUAL | {Trait.LOGIN}) - {Trait.CHUNKS},
        refusals=_DISTRIBUTION,
    ),
    RegistryKind("strict", "strict registry (stand-in)", _strict, USUAL - {Trait.DELETES}),
    RegistryKind(
        "awkward",
        "strict registry without extras (stand-in)",
        _awkward,
        _WITH_LOGIN - {Trait.DELETES, Trait.MOUNTS, Trait.CHUNKS},
    ),
)
BY_NAME: Final = {kind.name: kind for kind in KINDS}
