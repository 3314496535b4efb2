"""How a strict registry behaves: each switch is something that registries may do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

#: What a break is repeated for: each time anew.
ALWAYS: Final = 1_000_000_000


@dataclass(frozen=True)
class TokenRules:
    """Bearer tokens: who gets them, and for how long they are good."""

    #: Name → password.
    users: Mapping[str, str]
    #: Name → what the user may do in each repository; both when not named.
    rights: Mapping[str, frozenset[str]] = field(default_factory=dict)
    #: Requests that a token is good for; ``None``: any number.
    requests: int | None = None
    #: Seconds that a token is good for; ``None``: for ever. Unit: s.
    lifetime_s: float | None = None
    #: What the token server says of that, true or not. Unit: s.
    claimed_s: int = 300


@dataclass(frozen=True)
class Rules:
    """The defaults: a registry that follows the specification and grants all that it names."""

    #: ``False``: a mount is answered with 202 and an upload.
    mounts: bool = True
    #: A blob is mounted only from where a manifest references it, as Amazon ECR does.
    mounts_need_manifest: bool = False
    #: Seconds that a mount takes: two at once are seen. Unit: s.
    mount_s: float = 0.01
    #: A blob is given by another port, which must not see any credentials.
    redirect: bool = False
    #: So many requests get 429 before the first is answered.
    throttle_first: int = 0
    #: Each request of this number gets 429; 0: none.
    throttle_every: int = 0
    #: So many puts of manifests get 429 before the first is taken.
    throttle_manifests: int = 0
    #: Unit: s.
    retry_after_s: int = 1
    #: ``False``: the referrers API answers 404, and no OCI-Subject is told.
    referrers: bool = True
    #: ``False``: the referrers API is there, and no OCI-Subject is told.
    oci_subject: bool = True
    #: Digests that the referrers API does not list: they are older than it.
    unlisted: frozenset[str] = frozenset()
    #: ``False``: an upload takes one body only, in PATCH or PUT, and no Content-Range.
    chunks: bool = True
    #: Bodies of uploads need a Content-Length.
    lengths: bool = False
    #: ``False``: an index that lists blobs is refused, as distribution 3 does.
    index_of_blobs: bool = True
    #: ``False``: a manifest is taken without what it names, as the registry of go-containerregistry
    #: does.
    checks_parts: bool = True
    #: A tag never moves.
    immutable_tags: bool = False
    #: Most entries of a page of tags or repositories; 0: any number.
    page_size: int = 0
    tokens: TokenRules | None = None
    #: A read of a blob breaks off after so many bytes of the answer. Unit: bytes.
    cut_download: int | None = None
    #: How often, for each blob.
    cut_downloads: int = 1
    #: ``False``: a read gives the whole blob, whatever part was asked for.
    ranges: bool = True
    etags: bool = True
    #: A body of an upload breaks off after so many bytes. Unit: bytes.
    cut_upload: int | None = None
    #: How often, for the whole registry.
    cut_uploads: int = 1
    #: ``False``: a broken upload is forgotten, as distribution 2.8 does.
    keeps_uploads: bool = True
    #: Digests whose bytes are wrong when they are read.
    corrupt: frozenset[str] = frozenset()
