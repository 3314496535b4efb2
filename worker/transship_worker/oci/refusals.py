"""A registry's refusals as data, and which of them no retry changes.

Registries name one cause in several ways; where a text or status was seen or documented, stands
beside its rule. Rules are in the order in which they count.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from transship.errors import (
    BodyTooLarge,
    DigestInvalid,
    ForeignLayersRefused,
    ManifestInvalid,
    MediaTypeUnsupported,
    PushError,
    QuotaExceeded,
    RegistryReadOnly,
)

#: How many digests are kept of one answer.
DIGESTS_MOST: Final = 100
_DIGEST: Final = re.compile(
    r"(?<![0-9a-z])sha(?:256:[0-9a-f]{64}|384:[0-9a-f]{96}|512:[0-9a-f]{128})"
)
_MANIFEST: Final = re.compile(r"/manifests/[^/]+$")
_OTHER_ALGORITHM: Final = re.compile(r"/(?:manifests|blobs)/(?!sha256:)sha\d+:")
_WRITES: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is no success, as data. Holds no secret."""

    method: str
    #: Without query and user.
    url: str
    status: int
    #: The registry's own codes, upper case, in their order.
    codes: tuple[str, ...] = ()
    #: Its words on one bounded line of printable characters; may be empty.
    message: str = ""
    retry_after_s: float | None = None
    #: Digests that it names, each once.
    digests: tuple[str, ...] = ()

    def __str__(self) -> str:
        codes = f" {', '.join(self.codes)}" if self.codes else ""
        said = f": {self.message}" if self.message else ""
        return f"{self.method} {self.url} answered {self.status}{codes}{said}"

    @property
    def is_write(self) -> bool:
        """Whether it answers a request that would change something."""
        return self.method in _WRITES

    @property
    def is_of_manifest(self) -> bool:
        """Whether it answers a request about a manifest."""
        return _MANIFEST.search(self.url) is not None


def digests_in(text: str) -> tuple[str, ...]:
    """The digests that a text names, each once, not very many."""
    found = dict.fromkeys(match[0] for match in _DIGEST.finditer(text))
    return tuple(found)[:DIGESTS_MOST]


def permanent(refused: Refusal, registry: str, about: str) -> tuple[type[PushError], str] | None:
    """Kind and text of a refusal that no retry changes; ``None``: it is another one."""
    for rule in _RULES:
        if rule.fits(refused):
            return rule.kind, rule.text(refused).format(registry=registry, about=about)
    return None


@dataclass(frozen=True, slots=True)
class _Rule:
    kind: type[PushError]
    fits: Callable[[Refusal], bool]
    #: Has ``{registry}`` and ``{about}`` in it.
    text: Callable[[Refusal], str]


def _says(pattern: str) -> Callable[[Refusal], bool]:
    compiled = re.compile(pattern, re.IGNORECASE)
    return lambda refused: compiled.search(refused.message) is not None


def _always(text: str) -> Callable[[Refusal], str]:
    return lambda _: text


#: Harbor, 412 PRECONDITION: "adding 1 MiB of storage resource, which when updated to current usage
#: of 9 MiB will exceed the configured upper limit of 10 MiB" (older: 403 DENIED, "Quota exceeded
#: when processing the request"); Quay, 403 DENIED: "Quota has been exceeded on namespace".
_quota_words = _says(
    r"quota\b.{0,60}\bexceed|exceed\w*\b.{0,60}\bquota|exceed the configured upper limit"
    r"|(storage|space) (limit|quota)\b.{0,40}(exceed|reach)|insufficient storage"
)
#: A quota of requests passes: Google's "Quota exceeded for quota metric 'Requests per project'".
_rate_words = _says(r"requests? per|per (second|minute|hour|day)\b|\brate")
#: Quay: "System is currently read-only"; Harbor: "The system is in read only mode".
_read_only_words = _says(
    r"read[- ]only mode|(system|registry|server) is (currently |in )?read[- ]only"
)
#: "unknown manifest type" and the like: Artifactory, GitLab ("unknown media type"), Quay ("manifest
#: schema version not supported"), ECR (405 UNSUPPORTED, "Invalid parameter at 'ImageManifest'").
_type_words = _says(
    r"(unknown|unsupported|unrecognized|invalid|unexpected) (manifest |image |artifact )?"
    r"((media|mime)[ -]?type|manifest type|config type|schema version)"
    r"|(media[ -]?types?|mime types?|manifest types?|schema versions?|manifest)\b.{0,120}"
    r"\b(not|un)[ -]?(supported|allowed|accepted|recognized)"
    r"|Invalid parameter at 'image\w*'|UnsupportedImageType"
)
#: Of manifests alone: the words may stand in a repository's name.
_foreign_words = _says(
    r"(foreign|non-?distributable|remote) layers?\b|layers? .{0,40}\bforeign\b"
    r"|(missing|invalid) URLs? on layer"
)


def _is_full(refused: Refusal) -> bool:
    if not refused.is_write:
        return False
    if refused.status == 507:
        return True
    return refused.status < 500 and _quota_words(refused) and not _rate_words(refused)


def _is_read_only(refused: Refusal) -> bool:
    if not refused.is_write:
        return False
    return refused.status == 405 or "UNSUPPORTED" in refused.codes or _read_only_words(refused)


def _is_of_type(refused: Refusal) -> bool:
    if not refused.is_write:
        return False
    if refused.status == 415:
        return True
    return refused.status < 500 and refused.is_of_manifest and _type_words(refused)


def _is_of_digest(refused: Refusal) -> bool:
    codes = set(refused.codes)
    # With MANIFEST_BLOB_UNKNOWN beside it, distribution 2.8 was reading the link to a blob while
    # somebody wrote it: that passes.
    if "DIGEST_INVALID" in codes:
        return "MANIFEST_BLOB_UNKNOWN" not in codes
    other = _OTHER_ALGORITHM.search(refused.url) is not None
    # go-containerregistry's registry: 400 NAME_INVALID, "invalid digest". The answer to a HEAD
    # has no words.
    if "NAME_INVALID" in codes:
        return other or re.search(r"\bdigest\b", refused.message, re.IGNORECASE) is not None
    # The same one to an index that names a child by such a digest: 400 MANIFEST_INVALID.
    if "MANIFEST_INVALID" in codes:
        return "unsupported hash" in refused.message.lower()
    return other and refused.status == 400 and not codes


def _too_large(refused: Refusal) -> str:
    # Of a proxy, mostly: nginx accepts 1 MB where nothing else is set.
    if refused.is_of_manifest:
        return "{registry}, or a proxy before it, accepts no manifest of this size: {about}"
    return (
        "{registry}, or a proxy before it, accepts no request of this size for {about}; set "
        "max_body of the component to a size that it accepts"
    )


_RULES: Final = (
    _Rule(BodyTooLarge, lambda refused: refused.status == 413, _too_large),
    _Rule(QuotaExceeded, _is_full, _always("{registry} has no room for {about}")),
    _Rule(
        ForeignLayersRefused,
        lambda refused: refused.is_write and refused.is_of_manifest and _foreign_words(refused),
        _always("{registry} takes no nondistributable (foreign) layers, which {about} has"),
    ),
    _Rule(
        MediaTypeUnsupported,
        _is_of_type,
        _always("{registry} does not support the media type of {about}, or of what it names"),
    ),
    _Rule(
        RegistryReadOnly,
        _is_read_only,
        _always("{registry} takes no writes (read-only, or a pull-through proxy): {about}"),
    ),
    _Rule(DigestInvalid, _is_of_digest, _always("{registry} refused the digest of {about}")),
    _Rule(
        ManifestInvalid,
        lambda refused: (
            not {"MANIFEST_INVALID", "MANIFEST_UNVERIFIED"}.isdisjoint(refused.codes)
            and "MANIFEST_BLOB_UNKNOWN" not in refused.codes
        ),
        _always("{registry} calls the manifest of {about} invalid"),
    ),
)
