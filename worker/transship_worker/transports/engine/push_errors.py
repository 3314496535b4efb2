"""What the Docker Engine says when a push or a lookup fails, turned into typed errors.

The engine gives text only: its own, Go's, or the registry's error (``code: message``, the
codes as in docker/distribution ``registry/api/errcode``). Most of these texts were seen on
Docker Engine 20.10 against distribution 2.8 and a scripted registry (the tests repeat them);
those of a vendor say where they were reported.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from transship.errors import (
    BodyTooLarge,
    Denied,
    EngineMisconfigured,
    EngineUnavailable,
    ImageNotFound,
    ImmutableTag,
    ManifestInvalid,
    MediaTypeUnsupported,
    PushError,
    PushRejected,
    QuotaExceeded,
    RateLimited,
    RegistryReadOnly,
    RegistryUnavailable,
    RegistryUnreachable,
    RegistryUntrusted,
    RepositoryMissing,
)
from transship.model.references import ImageReference
from transship_worker.credentials.access import Credentials
from transship_worker.credentials.redaction import clean

#: Seconds in the units in which Go prints a duration.
_GO_UNITS: Final = {"ns": 1e-9, "µs": 1e-6, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600}


@dataclass(frozen=True, slots=True)
class Spoken:
    """Who said something, and about what: all that a message for a person needs."""

    engine: str
    image: ImageReference
    credentials: Credentials | None = None
    #: Its settings have other places than the Docker Engine's.
    is_podman: bool = False
    #: It can push one platform of an index.
    takes_platform: bool = True

    def clean(self, text: str) -> str:
        """The text on one line, escaped, bounded, and without credentials."""
        return clean(text, self.credentials)


def translate(text: str, spoken: Spoken) -> PushError:
    """The typed error for what the engine said."""
    # The image's own name may hold words like "denied".
    bare = text.replace(spoken.image.registry, "").replace(spoken.image.repository, "")
    for rule in _RULES:
        if rule.pattern.search(bare):
            return rule.make(text, spoken)
    return PushRejected(f"the push was refused: {spoken.clean(text)}")


def _saying(kind: type[PushError], what: str) -> Callable[[str, Spoken], PushError]:
    """An error whose message is a sentence and then the engine's own words."""

    def make(text: str, spoken: Spoken) -> PushError:
        sentence = what.format(
            registry=spoken.image.registry, image=spoken.image, engine=spoken.engine
        )
        return kind(f"{sentence}: {spoken.clean(text)}")

    return make


def _not_found(_: str, spoken: Spoken) -> PushError:
    return ImageNotFound(f"image {spoken.image} is not in engine {spoken.engine}")


def _not_whole(text: str, spoken: Spoken) -> PushError:
    choice = "or choose one that is there with --platform"
    if not spoken.takes_platform:
        choice = "or push one with --platform from Docker Engine 27 or newer"
    return ImageNotFound(
        f"engine {spoken.engine} does not hold all that is to be pushed of {spoken.image}; pull "
        f"the missing platforms, {choice}: {spoken.clean(text)}"
    )


def _plain_http(_: str, spoken: Spoken) -> PushError:
    registry, engine = spoken.image.registry, spoken.engine
    if spoken.is_podman:
        return EngineMisconfigured(
            f"{registry} answers in plain HTTP and engine {engine} asks for TLS; set insecure = "
            f"true for {registry} in Podman's registries.conf"
        )
    return EngineMisconfigured(
        f"{registry} answers in plain HTTP and engine {engine} asks for TLS; add {registry} under "
        "insecure-registries in the engine's daemon.json and reload it"
    )


def _unknown_authority(_: str, spoken: Spoken) -> PushError:
    registry, engine = spoken.image.registry, spoken.engine
    return EngineMisconfigured(
        f"engine {engine} does not trust the certificate of {registry}; the CA that signed "
        f"it must be in /etc/docker/certs.d/{registry}/ca.crt on the engine's host"
    )


def _half_client_certificate(text: str, spoken: Spoken) -> PushError:
    registry, engine = spoken.image.registry, spoken.engine
    return EngineMisconfigured(
        f"engine {engine} cannot use what is in /etc/docker/certs.d/{registry} on its machine: "
        f"{spoken.clean(text)}"
    )


def _client_certificate(_: str, spoken: Spoken) -> PushError:
    registry, engine = spoken.image.registry, spoken.engine
    return EngineMisconfigured(
        f"{registry} requires a client certificate from engine {engine}; one that it accepts must "
        f"be in /etc/docker/certs.d/{registry}/client.cert, its key in client.key, on the engine's "
        "host"
    )


def _rate_limited(text: str, spoken: Spoken) -> PushError:
    message = f"{spoken.image.registry} answered 429: {spoken.clean(text)}"
    return RateLimited(message, retry_after_s=_retry_after(text))


def _denied(text: str, spoken: Spoken) -> PushError:
    registry = spoken.image.registry
    if spoken.credentials is None:
        what = f"{registry} wants a login for {spoken.image.name} and the component has none"
    else:
        what = f"{registry} refused the component's login, or its rights on {spoken.image.name}"
    return Denied(f"{what}: {spoken.clean(text)}")


def _retry_after(text: str) -> float | None:
    """The wait that GHCR writes into its message, as Go prints a duration.

    For example ``toomanyrequests: retry-after: 985.86µs, allowed: 44000/minute``.
    """
    found = re.search(r"retry-after:\s*((?:[\d.]+(?:ns|µs|us|ms|s|m|h))+)", text, re.IGNORECASE)
    if not found:
        seconds = re.search(r"retry-after:\s*(\d+)\b", text, re.IGNORECASE)
        return float(seconds[1]) if seconds else None
    parts = re.findall(r"([\d.]+)(ns|µs|us|ms|s|m|h)", found[1])
    try:
        return sum(float(number) * _GO_UNITS[unit] for number, unit in parts)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class _Rule:
    pattern: re.Pattern[str]
    make: Callable[[str, Spoken], PushError]


def _rule(pattern: str, make: Callable[[str, Spoken], PushError]) -> _Rule:
    return _Rule(re.compile(pattern, re.IGNORECASE), make)


#: The first that matches counts, so what is more particular stands first.
_RULES: Final = (
    # "image not known" is Podman's.
    _rule(
        r"does not exist locally with the tag|^tag does not exist:|no such image|image not known",
        _not_found,
    ),
    # A partly pulled index, or a platform that it lacks (moby daemon/containerd/image_push.go and
    # platform_matchers.go; Docker 26: "missing content: …").
    _rule(
        r"multiple (matching )?manifests found|does not (provide|match) the specified platform"
        r"|missing content: |^content (digest )?sha256:\S+: not found"
        r"|not all of them are available locally",
        _not_whole,
    ),
    _rule(r"server gave HTTP response to HTTPS client", _plain_http),
    _rule(r"x509: certificate signed by unknown authority", _unknown_authority),
    # moby registry/registry.go, ReadCertsDirectory.
    _rule(
        r"missing (key|client certificate) \S+ for (client certificate|key)",
        _half_client_certificate,
    ),
    # Only the other side's alerts are "remote"; a server that asks for certificates sends these
    # (Go's crypto/tls, alert.go).
    _rule(
        r"remote error: tls: (certificate required|bad certificate|unknown certificate"
        r"|unsupported certificate|expired certificate|revoked certificate|access denied)",
        _client_certificate,
    ),
    # Its name or its dates are wrong, and will be at the next attempt.
    _rule(
        r"x509:",
        _saying(RegistryUntrusted, "engine {engine} refuses the certificate of {registry}"),
    ),
    _rule(
        r"tls: |TLS handshake|proxyconnect",
        _saying(RegistryUnreachable, "engine {engine} cannot reach {registry}"),
    ),
    _rule(
        # GHCR also says 403 and "exceeded a secondary rate limit".
        r"toomanyrequests|too many requests|rate exceeded|rate limit|HTTP (status: )?429",
        _rate_limited,
    ),
    # ECR: "tag invalid: The image tag … cannot be overwritten because the repository is
    # immutable" (aws/containers-roadmap#862); Harbor: 412 "… configured as immutable".
    _rule(
        r"immutab|ImageTagAlreadyExists|cannot be overwritten",
        _saying(ImmutableTag, "{registry} does not let the tag of {image} move"),
    ),
    # What no retry changes, as ``oci.refusals`` judges it for the worker's own requests.
    _rule(
        r"quota\b.{0,60}\bexceed|exceed\w*\b.{0,60}\bquota|exceed the configured upper limit"
        r"|insufficient storage|HTTP (status: )?507|: 507\b",
        _saying(QuotaExceeded, "{registry} has no room for {image}"),
    ),
    _rule(
        r"HTTP (status: )?415|: 415\b|(unknown|unsupported) (manifest |image )?(media type"
        r"|manifest type)|manifest schema version not supported",
        _saying(MediaTypeUnsupported, "{registry} does not support the media type of {image}"),
    ),
    _rule(
        r"HTTP (status: )?405|: 405\b|read[- ]only mode|the operation is unsupported"
        # Docker 20.10 to a pull-through proxy of distribution 2.8, whose error has no message.
        r"|^unsupported$"
        r"|(system|registry|server) is (currently |in )?read[- ]only",
        _saying(
            RegistryReadOnly, "{registry} takes no writes (read-only, or a pull-through proxy)"
        ),
    ),
    _rule(
        r"manifest invalid|MANIFEST_INVALID|manifest unverified",
        _saying(ManifestInvalid, "{registry} calls the manifest of {image} invalid"),
    ),
    # ECR: "name unknown: The repository with name … does not exist in the registry with id …";
    # Harbor: "unknown: project … not found", also as "unauthorized: project … not found".
    # An engine with the containerd image store tells only the status.
    _rule(
        r"name unknown|NAME_UNKNOWN|repository name not known|repository with name .* does not"
        r"|(project|namespace|repository) \S* ?(was )?not found|POST request to \S*: 404",
        _saying(RepositoryMissing, "there is no repository for {image} to go to"),
    ),
    _rule(
        r"no basic auth credentials|unauthorized|authentication required|\bdenied\b|forbidden"
        r"|insufficient.scope|not authorized|incorrect username|HTTP (status: )?40[13]\b",
        _denied,
    ),
    _rule(
        r"context cancell?ed|daemon is shutting down",
        _saying(EngineUnavailable, "engine {engine} gave the push up"),
    ),
    # The engine sends each layer in one request.
    _rule(
        r"HTTP (status: )?413|unexpected status.*: 413|request entity too large",
        _saying(
            BodyTooLarge,
            "{registry}, or a proxy before it, accepts no request of this size for {image}; set "
            "max_body of the component and push with --via stream",
        ),
    ),
    # A lost upload session or a stale hint about a blob; the next attempt finds out anew.
    _rule(
        r"HTTP (status: )?5\d\d|unexpected status.*: 5\d\d|blob upload (unknown|invalid)"
        r"|(unknown blob|blob unknown)|digest invalid|internal server error"
        r"|service unavailable|gateway time-?out|connection reset|broken pipe|\bEOF\b"
        r"|use of closed network connection|transport connection broken|GOAWAY|stream error"
        r"|timeout awaiting response headers",
        _saying(RegistryUnavailable, "{registry} failed or broke off"),
    ),
    _rule(
        r"connection refused|no such host|i/o timeout|network is unreachable|no route to host"
        r"|deadline exceeded|Client\.Timeout|server misbehaving|dial tcp|bad gateway|lookup .* on",
        _saying(RegistryUnreachable, "engine {engine} cannot reach {registry}"),
    ),
)
