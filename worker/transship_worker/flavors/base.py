"""``BaseContainerRegistry``: what every registry component is, and what a flavor overrides."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from transship.errors import (
    CannotList,
    CredentialsMissing,
    InvalidReference,
    NotAllowed,
    NotUnderRegistry,
    PrepareFailed,
    PushError,
)
from transship.model.components import PublicComponent, not_under_registry
from transship.model.references import ImageReference, RegistryUri
from transship.model.request_fields import Name
from transship_worker.credentials import docker_config
from transship_worker.credentials.access import Access, Credentials
from transship_worker.credentials.redaction import SHORTEST, hidden, spellings
from transship_worker.credentials.secret_sources import (
    EnvReference,
    FileReference,
    LocalPath,
    Secret,
    Text,
    resolve,
)
from transship_worker.flavors.foreign_code import typed_errors
from transship_worker.flavors.notes import add_note
from transship_worker.flavors.options import (
    EVERY_USE,
    EndpointUrl,
    LimitsOption,
    MaxBody,
    Networks,
    Realms,
    Use,
    Uses,
)
from transship_worker.flavors.own_transport import transport_for, with_any_transport
from transship_worker.fleet.limits import Limits
from transship_worker.transports.port import PushTransport

if TYPE_CHECKING:
    # The client's libraries are not for a push.
    from transship_worker.oci.client import RegistryClient
    from transship_worker.oci.endpoint import Endpoint

logger = logging.getLogger("transship.flavor")


class BaseContainerRegistry(BaseModel):
    """One registry component of the catalogue; a flavor is a subclass.

    A custom flavor needs ``FLAVOR`` and, where something must be there before a push,
    ``prepare_image_push``. Further fields are further options in the catalogue; one that is a
    secret has the type ``Secret`` and is read with ``resolve``.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        # A value may be a secret.
        hide_input_in_errors=True,
        protected_namespaces=(),
    )

    #: The kind of component.
    TYPE: ClassVar[str] = "container_registry"
    #: The flavor's name in the catalogue; a flavor must set it.
    FLAVOR: ClassVar[str] = ""
    #: A right URI, for messages.
    URI_EXAMPLE: ClassVar[str] = "registry.example.com/ml"
    #: Whether the registry takes a blob in chunks, each a request with its ``Content-Range``.
    CHUNKED: ClassVar[bool] = True
    #: Why ``max_body`` cannot be used with this registry; empty: it can.
    NO_MAX_BODY: ClassVar[str] = ""
    #: Whether a blob can be mounted only from where a manifest references it.
    MOUNTS_NEED_MANIFEST: ClassVar[bool] = False
    #: How many tags or repositories are asked for at once; distribution 3 refuses more.
    PAGE_SIZE: ClassVar[int] = 1_000
    #: What the vendor's quotas allow; a component's own ``limits`` come first.
    QUOTAS: ClassVar[Limits] = Limits()

    #: The component's name in the catalogue; the catalogue gives it.
    name: Name
    #: Where its images live, ``host[:port][/path]``; trailing slashes are removed.
    uri: str
    username: Text | None = None
    password: Secret | None = None
    #: ``docker-config``: use this host's login, as ``docker login`` or ``podman login`` stored it.
    credentials_from: Literal["docker-config"] | None = Field(None, alias="credentials")
    #: Plain HTTP, or TLS that is not verified.
    insecure: bool = False
    #: PEM file of the authority that signed the registry's certificate.
    ca: LocalPath | None = None
    #: PEM files of the certificate that the registry knows its clients by, and of its key.
    client_cert: LocalPath | None = None
    client_key: LocalPath | None = None
    #: Base URL where a worker reaches the registry under another address than its name, or below a
    #: path.
    endpoint: EndpointUrl | None = None
    #: Token servers that may see the login, besides the registry's own host.
    auth_realms: Realms = frozenset()
    #: Networks that the registry may lead to, besides those of its own address's class.
    allowed_networks: Networks = ()
    #: The largest body that a proxy before the registry accepts: a larger blob is sent in chunks of
    #: at most this size. Unit: bytes.
    max_body: MaxBody | None = None
    #: What the component is for.
    allow: Uses = EVERY_USE
    #: The most that all workers together do there with this login.
    limits: LimitsOption = Limits()

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        """Let a flavor's own ``push_image`` be called with and without a transport."""
        super().__pydantic_init_subclass__(**options)
        if "push_image" in vars(cls):
            cls.push_image = with_any_transport(cls.push_image)  # type: ignore[method-assign]

    @field_validator("uri")
    @classmethod
    def _canonical_uri(cls, value: str) -> str:
        if "@" in value.partition("//")[2].partition("/")[0] or "@" in value.partition("/")[0]:
            # Not shown: what stands before the @ may be a password.
            raise ValueError(
                f"uri must not hold a login; write uri: {cls.URI_EXAMPLE} and the options "
                "username and password"
            )
        try:
            return str(RegistryUri.parse(value))
        except InvalidReference as error:
            raise ValueError(f"uri {error.message}; for example uri: {cls.URI_EXAMPLE}") from None

    @model_validator(mode="after")
    def _one_source_of_credentials(self) -> BaseContainerRegistry:
        if self.credentials_from and (self.username or self.password):
            raise ValueError("choose one: credentials: docker-config, or username and password")
        if self.insecure and self.ca is not None:
            raise ValueError(
                "choose one: insecure: true does without the certificate that ca names"
            )
        return self

    @model_validator(mode="after")
    def _whole_client_certificate(self) -> BaseContainerRegistry:
        if (self.client_cert is None) != (self.client_key is None):
            raise ValueError("client_cert and client_key go together: write both or none")
        if self.insecure and self.client_cert is not None:
            raise ValueError(
                "choose one: insecure: true knows no registry to show client_cert to; name its "
                "authority with ca instead"
            )
        return self

    @model_validator(mode="after")
    def _max_body_is_possible(self) -> BaseContainerRegistry:
        if self.max_body is not None and self.NO_MAX_BODY:
            raise ValueError(f"max_body is not for {self.FLAVOR}: {self.NO_MAX_BODY}; leave it out")
        return self

    @property
    def requires_authentication(self) -> bool:
        """Whether the component brings a login of its own: ``username`` and ``password``."""
        return self._is_set("username") and self._is_set("password")

    @property
    def is_local(self) -> bool:
        """Whether the registry is on this machine, by its host's name or address alone."""
        return self.registry_uri.is_loopback

    @property
    def registry_uri(self) -> RegistryUri:
        """The URI in its parts."""
        return RegistryUri.parse(self.uri)

    @property
    def access(self) -> Access:
        """How the registry is reached."""
        return Access.of(
            insecure=self.insecure,
            ca=self.ca,
            client_cert=self.client_cert,
            client_key=self.client_key,
        )

    @property
    def registry_endpoint(self) -> Endpoint:
        """How the registry's API is reached, for the asynchronous client."""
        from transship_worker.oci.endpoint import Endpoint

        # A URL's host has no brackets where a name in the catalogue must have them.
        realms = frozenset(re.sub(r"[][]", "", realm) for realm in self.auth_realms)
        return Endpoint(
            self.registry_uri.registry,
            self.access,
            self.endpoint,
            realms,
            self.max_body,
            self.allowed_networks,
        )

    @property
    def chunked(self) -> bool:
        """Whether blobs may be sent to this registry in chunks."""
        return self.CHUNKED

    @property
    def quotas(self) -> Limits:
        """The component's own limits, and where it has none its vendor's."""
        own, vendors = self.limits, self.QUOTAS
        return Limits(
            own.requests_per_second or vendors.requests_per_second,
            own.transfers or vendors.transfers,
            own.bytes_per_second or vendors.bytes_per_second,
        )

    @property
    def public(self) -> PublicComponent:
        """What producers may know of it."""
        return PublicComponent(name=self.name, flavor=self.FLAVOR, uri=self.uri)

    def check_allows(self, use: Use) -> None:
        """Return if the component may be used so.

        Raises:
            NotAllowed: it may not.
        """
        if use not in self.allow:
            raise NotAllowed(
                f"component {self.name!r} is not for {use}: it says allow: "
                f"[{', '.join(sorted(self.allow))}]; add {use} there in the worker's catalogue, "
                "or name another component"
            )

    def prepare_image_push(self, image_name: str) -> None:
        """Make the registry ready for one image, or refuse it. Does nothing by default.

        ``image_name`` is the canonical text, with its tag; with its digest for a copy that
        gets no tag. What is raised here ends the job with that message. It may be called again
        for the same image, and by several workers at once.
        """

    def list_repositories(
        self,
        client: RegistryClient,  # noqa: ARG002 - for those that override this
    ) -> AsyncIterator[list[str]]:
        """The registry's repositories, a page at a time, by their full names (``/v2/NAME/``).

        To be written as an asynchronous generator by a flavor whose registry can do that; what
        lies outside of the URI may come along. ``client`` asks the registry with this
        component's login.

        Raises:
            CannotList: the flavor has no way to.
        """
        raise CannotList(f"flavor {self.FLAVOR!r} cannot list repositories; write their names out")

    def push_image(self, image_name: str, *, transport: PushTransport | None = None) -> str:
        """Push an image of this registry and return its digest, ``sha256:…``.

        A worker passes the transport of its job. Without one the image is pushed at once, in
        one attempt, by the Docker Engine that the ``docker`` command would use; no queue, retry
        or limit of the fleet is involved.

        Raises:
            NotUnderRegistry: a ``ValueError``: the image does not lie under the URI.
            InvalidReference: a ``ValueError``: it is no image reference, or names a digest.
            PushError: what went wrong, as a typed error.
        """
        image = self.prepared(image_name)
        transport = transport_for(self, transport)
        return transport.push(image, credentials=self.credentials(), access=self.access)

    def credentials(self) -> Credentials | None:
        """The login for a push; ``None``: none is needed. A flavor with its own overrides it.

        Raises:
            CredentialsMissing: naming the component and what cannot be had.
        """
        if self.credentials_from == "docker-config":
            return docker_config.from_docker_config(self.registry_uri, self.name)
        username, password = self.resolve("username"), self.resolve("password")
        if username is None and password is None:
            return None
        if username is None or password is None:
            given, missing = ("username", "password") if username else ("password", "username")
            raise CredentialsMissing(f"component {self.name!r} has a {given} but no {missing}")
        return Credentials(username, SecretStr(password))

    def placed(self, image_name: str) -> ImageReference:
        """The image, parsed; where it has neither tag nor digest, its tag is ``latest``.

        Raises:
            NotUnderRegistry: it does not lie under the URI, by host and path segments.
            InvalidReference: it is no image reference.
        """
        image = ImageReference.parse(image_name)
        if not image.lies_under(self.registry_uri):
            raise NotUnderRegistry(not_under_registry(image_name, self.public))
        return image.tagged

    def belonging(self, image_name: str) -> ImageReference:
        """The image of a push, parsed; a missing tag is ``latest``.

        Raises:
            NotUnderRegistry: it does not lie under the URI, by host and path segments.
            InvalidReference: it is no image reference, or names a digest.
        """
        image = self.placed(image_name)
        if image.digest is not None:
            raise InvalidReference(
                f"{image_name!r} names a digest; a push needs a tag: write {image.name}:TAG"
            )
        return image

    def prepared(self, image_name: str, *, use: Use = Use.PUSH) -> ImageReference:
        """``prepare_image_push`` of an image that belongs here, if the component may do this.

        A copy (``Use.COPY_TO``) may name a digest. Any exception becomes a typed one.

        Raises:
            NotAllowed: the component is not for this.
            NotUnderRegistry: the image does not lie under the URI.
            PrepareFailed: with the message of the exception that was raised.
            TransshipError: that was raised as such.
        """
        self.check_allows(use)
        image = self.belonging(image_name) if use is Use.PUSH else self.placed(image_name)
        with self.own_code(PrepareFailed):
            self.prepare_image_push(str(image))
        return image

    def own_code(self, otherwise: type[PushError], about: str = "") -> AbstractContextManager[None]:
        """Around a flavor's own code, a custom one's too: any exception becomes a typed one.

        Raises:
            TransshipError: that was raised as such, without this component's secrets.
            PushError: ``otherwise``, with ``about`` and the message of what was raised.
        """
        whose = f"flavor {self.FLAVOR!r} of {self.name!r}"
        return typed_errors(whose, self.redacted, otherwise, about)

    def resolve(self, option: str) -> str | None:
        """The text of an option, its reference followed; ``None``: it is not set.

        Raises:
            CredentialsMissing: an unset variable or a file that cannot be read.
        """
        return resolve(getattr(self, option), self.name, option)

    def unreadable_secret(self) -> str | None:
        """Why a secret that the component refers to cannot be read here; ``None``: all can."""
        for option, value in self:
            if isinstance(value, EnvReference | FileReference):
                try:
                    resolve(value, self.name, option)
                except CredentialsMissing as error:
                    return error.message
        return None

    def redacted(self, text: str) -> str:
        """The text without any of this component's secrets that can be had just now."""
        return hidden(text, self.secret_spellings())

    def secret_spellings(self) -> set[str]:
        """All the ways in which this component's secrets may be written, as far as it has them."""
        found: set[str] = set()
        username = self._readable("username", self.username)
        for option, value in self:
            if option != "username" and isinstance(value, SecretStr | EnvReference | FileReference):
                secret = self._readable(option, value) or ""
                found |= spellings(secret, username) if len(secret) >= SHORTEST else set()
        return found

    def _readable(self, option: str, value: object) -> str | None:
        try:
            return resolve(value, self.name, option)
        except CredentialsMissing:
            return None

    def note(self, sentence: str) -> None:
        """Say what was done to the registry; `transship registry prepare` shows it."""
        sentence = self.redacted(sentence)
        logger.info("%s: %s", self.name, sentence)
        add_note(sentence)

    def _is_set(self, option: str) -> bool:
        value: Any = getattr(self, option)
        return bool(value.get_secret_value() if isinstance(value, SecretStr) else value)
