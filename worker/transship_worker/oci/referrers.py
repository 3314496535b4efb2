"""What refers to an image: signatures, SBOMs, attestations.

Three ways, all in use: the referrers API (distribution-spec 1.1, "Listing Referrers"), the
tag that stands for it where a registry has none ("Referrers Tag Schema"), and cosign's own
tags (github.com/sigstore/cosign, "Signature Specification").

A registry that gained the API is to list what was pushed before ("Enabling the Referrers API"), and
not every one does: then the tag still names it. regclient, oras and cosign read the tag only where
there is no API; here both are read, since a signature that is not seen is not copied.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Final

from transship.errors import (
    AnswerMalformed,
    ImageNotFound,
    PushError,
    PushRejected,
    RepositoryMissing,
)
from transship_worker.concurrency.gather import both
from transship_worker.oci import digests, manifests
from transship_worker.oci.bodies import NoRoom
from transship_worker.oci.client import Repository
from transship_worker.oci.descriptors import (
    MANIFEST_LIMIT,
    OCI_INDEX,
    Descriptor,
    Manifest,
    parse_manifest,
)
from transship_worker.oci.errors import refusal_of
from transship_worker.oci.exchange import Request
from transship_worker.oci.manifest_memory import Share, reading
from transship_worker.oci.paging import pages

#: cosign's tags of an image: signatures, attestations, SBOMs.
COSIGN_SUFFIXES: Final = ("sig", "att", "sbom")
#: Pages of one image's referrers that are read.
REFERRER_PAGES: Final = 100
#: Referrers of one image that are read.
REFERRERS_MOST: Final = 2_000
#: What a registry without the API says; the specification knows 404 only.
_NO_API: Final = frozenset({404, 405, 501})


@dataclass(frozen=True, slots=True)
class Referrers:
    """What refers to one manifest."""

    manifests: tuple[Descriptor, ...]
    #: The registry keeps no list itself: clients keep the one under the fallback tag.
    by_tag: bool


def fallback_tag(digest: str) -> str:
    """The tag of the referrers list: ``sha256-`` and 64 hexadecimal digits."""
    algorithm, _, value = digest.partition(":")
    return re.sub(r"[^a-zA-Z0-9_.-]", "-", f"{algorithm[:32]}-{value[:64]}")


async def referrers(repository: Repository, digest: str, *, tagged: bool = True) -> Referrers:
    """What refers to a manifest: what the API lists, and what the fallback tag lists besides.

    Nothing, if there is no list. ``tagged=False``: the fallback tag is known not to exist, and is
    not asked for.

    The API is asked each time. Its 404 says nothing of the next manifest: some registries answer
    so to a manifest without referrers, a proxy answers so while it is being set up, and registries
    gain the API. Remembering it would save one small request, and lose signatures.

    Raises:
        PushError: the registry refuses, or does not answer.
    """
    digests.checked(digest)
    if tagged:
        listed, index = await both(_by_api(repository, digest), _fallback(repository, digest))
    else:
        listed, index = await _by_api(repository, digest), None
    found: dict[str, Descriptor] = {}
    for entry in (*(listed or ()), *(index.entries if index is not None else ())):
        found.setdefault(entry.digest, entry)
    return Referrers(tuple(found.values()), by_tag=listed is None)


async def is_listed(repository: Repository, manifest: Manifest) -> bool:
    """Whether the referrers API lists a manifest as what refers to its subject.

    Raises:
        PushError: the registry refuses, or does not answer.
    """
    if manifest.subject is None:
        return False
    listed = await _by_api(repository, manifest.subject.digest)
    return any(entry.digest == manifest.digest for entry in listed or ())


async def cosign_tags(repository: Repository, digest: str) -> dict[str, manifests.ManifestHead]:
    """The tags that cosign put beside an image that is there, with what they are."""
    # Most images have none of them: HEAD is believed where it is known to work.
    confirm = not await manifests.head_works(repository, digest)
    found = {}
    for suffix in COSIGN_SUFFIXES:
        tag = f"{fallback_tag(digest)}.{suffix}"
        head = await manifests.head(repository, tag, confirm=confirm)
        if head is not None:
            found[tag] = head
    return found


async def attach(repository: Repository, manifest: Manifest) -> None:
    """Add a manifest to the list of its subject's referrers where the registry keeps none.

    Two writers at once can lose one entry (the specification says so): one at a time for a
    subject is the caller's business.

    Raises:
        PushError: the list is something else, or the registry refuses or does not answer.
    """
    if manifest.subject is None:
        return
    digest = manifest.subject.digest
    index = await _fallback(repository, digest, strict=True)
    entries: list[object] = []
    if index is not None:
        if any(entry.digest == manifest.digest for entry in index.entries):
            return
        # As they stand, with what is not understood here.
        entries = json.loads(index.raw)["manifests"]
    entries.append(manifest.descriptor.as_json())
    raw = json.dumps(
        {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}, separators=(",", ":")
    ).encode()
    tag = fallback_tag(digest)
    made = parse_manifest(raw, what=manifests.name_of(repository, tag), content_type=OCI_INDEX)
    await manifests.put(repository, tag, made)


async def _by_api(repository: Repository, digest: str) -> tuple[Descriptor, ...] | None:
    """The list of the API; ``None``: the registry gives none for this manifest."""
    what = f"the referrers of {manifests.name_of(repository, digest)}"
    request = Request(
        "GET",
        await repository.url(f"referrers/{digest}"),
        repository.scopes,
        what,
        headers={"Accept": OCI_INDEX},
    )
    listing = _Listing()
    try:
        with reading(repository.client.manifest_memory) as share:
            try:
                await _read_list(repository, request, listing, share)
            except NoRoom:
                await share.enlarge()
                await _read_list(repository, request, listing, share)
    except AnswerMalformed:
        # A linked page that is missing, too: there is a list, which cannot be read to its end.
        raise
    except PushError as error:
        refused = refusal_of(error)
        if listing.answered or refused is None or refused.status not in _NO_API:
            raise
        return None
    return tuple(listing.found.values())


@dataclass(slots=True)
class _Listing:
    """What the API lists, as far as it was read."""

    #: It gave a page.
    answered: bool = False
    found: dict[str, Descriptor] = field(default_factory=dict)


async def _read_list(
    repository: Repository, request: Request, listing: _Listing, share: Share
) -> None:
    """Read all that the API lists.

    Raises:
        NoRoom: the share has none for the pages.
        AnswerMalformed: the list cannot be read, or is longer than what is read.
        PushError: the registry refuses, or does not answer.
    """
    what = request.about
    with share.incoming() as taken:
        read = pages(
            repository.client, request, limit=MANIFEST_LIMIT, most=REFERRER_PAGES, taken=taken
        )
        async for page in read:
            listing.answered = True
            if not isinstance(page.data.get("manifests", ""), list | None):
                raise AnswerMalformed(f"{what}: the answer has no list of manifests")
            raw = json.dumps(page.data).encode()
            index = parse_manifest(raw, what=what, content_type=OCI_INDEX)
            listing.found.update((entry.digest, entry) for entry in index.entries)
            if len(listing.found) > REFERRERS_MOST:
                raise AnswerMalformed(
                    f"{what}: the list has more than {REFERRERS_MOST} entries, which are not read"
                )


async def _fallback(
    repository: Repository, digest: str, *, strict: bool = False
) -> Manifest | None:
    """The list under the tag; ``None``: there is none, or something else is there.

    With ``strict`` something else is an error.
    """
    try:
        found = await manifests.get(repository, fallback_tag(digest))
    except (ImageNotFound, RepositoryMissing):
        return None
    if found.is_index:
        return found
    if strict:
        raise PushRejected(
            f"{manifests.name_of(repository, fallback_tag(digest))} is no list of referrers; "
            "it stays as it is"
        )
    return None
