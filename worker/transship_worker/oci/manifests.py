"""Manifests at a registry: looked at, read, written. A digest is computed here, never believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from transship.errors import (
    AnswerMalformed,
    Denied,
    DigestMismatch,
    ImageNotFound,
    ManifestUnsupported,
    PushRejected,
    RepositoryMissing,
)
from transship_worker.oci import digests
from transship_worker.oci.bodies import NoRoom
from transship_worker.oci.client import Repository
from transship_worker.oci.descriptors import (
    MANIFEST_LIMIT,
    MANIFEST_TYPES,
    Manifest,
    parse_manifest,
)
from transship_worker.oci.errors import ERROR_LIMIT, refusal_of
from transship_worker.oci.exchange import EXCHANGE_S, Answer, Request
from transship_worker.oci.honesty import can_say_no
from transship_worker.oci.learned import HEAD_REFUSED, HEAD_UNSUPPORTED
from transship_worker.oci.manifest_memory import Share, cost_of, reading

_ACCEPT: Final = {"Accept": ", ".join(MANIFEST_TYPES)}


@dataclass(frozen=True, slots=True)
class ManifestHead:
    """What a registry says that it holds; nothing of it is verified."""

    digest: str
    media_type: str
    #: Unit: bytes; ``None``: it did not say.
    size: int | None
    #: ``False``: something that it names is seen to be missing or damaged there (layouts only).
    complete: bool = True

    def is_whole(self, digest: str) -> bool:
        """Whether it is the manifest with this digest, with all that it names as far as is seen."""
        return self.digest == digest and self.complete


@dataclass(frozen=True, slots=True)
class Written:
    """A manifest that a registry took."""

    digest: str
    #: It keeps the list of the subject's referrers itself (``OCI-Subject``); else the writer
    #: must (``referrers.attach``).
    lists_referrers: bool


async def head(
    repository: Repository,
    reference: str,
    *,
    confirm: bool | None = None,
    certain: bool = False,
    doubted: bool = False,
) -> ManifestHead | None:
    """What a tag or digest is; ``None``: there is none. Docker Hub does not count it as a pull.

    ``doubted``: a yes decides that nothing is sent, and must be of a registry that also says no.

    A registry whose answer names no digest (distribution-spec 1.0 allowed that), or refuses the
    method, is asked for the manifest itself. So is one that answers 404, if ``confirm`` says so
    (by default where the repository is only read from): at a target that is the common case, and
    a write decides. Where HEAD proves useless it is not tried again for some time.

    Raises:
        PushError: the registry refuses, or does not answer. Where the repository is written to,
            a refusal counts as ``None``, unless it has to be ``certain``: some registries refuse
            what is not there yet.
    """
    heads = repository.client.learned.manifest_heads
    if heads.useless:
        return await _head_by_get(repository, reference, certain=certain)
    request = Request(
        "HEAD",
        await repository.url(f"manifests/{quote(reference, safe=':')}"),
        repository.scopes,
        name_of(repository, reference),
        headers=_ACCEPT,
        expected=frozenset({200, 404}) | HEAD_REFUSED,
    )
    answer = await repository.client.ask(request, limit=0)
    confirm = not repository.writing if confirm is None else confirm
    heads.says_no = heads.says_no or answer.status == 404
    if answer.status == 404 and not (confirm or certain):
        return None
    if answer.status != 200:
        return await _head_refused(repository, reference, answer.status, certain=certain)
    if doubted and not await can_say_no(repository, heads, "manifests"):
        return await _head_by_get(repository, reference, certain=certain)
    said = answer.headers.get("Docker-Content-Digest", "")
    if digests.is_digest(reference):
        # Asked by digest: what the registry calls it elsewhere does not matter.
        said = reference
    if not digests.is_digest(said):
        heads.contradicted()
        return await _head_by_get(repository, reference, certain=certain)
    heads.answered()
    length = answer.headers.get("Content-Length", "")
    return ManifestHead(
        said,
        answer.headers.get("Content-Type", "").partition(";")[0].strip(),
        int(length) if length.isascii() and length.isdigit() and len(length) < 19 else None,
    )


async def head_works(repository: Repository, digest: str) -> bool:
    """Whether the registry answers HEAD; it is asked for a manifest that is there, once."""
    heads = repository.client.learned.manifest_heads
    if not heads.works and not heads.useless:
        await head(repository, digest, confirm=True)
    return heads.works


async def _head_refused(
    repository: Repository, reference: str, status: int, *, certain: bool
) -> ManifestHead | None:
    """What GET says of a manifest whose HEAD was refused, or found nothing."""
    learned = repository.client.learned
    decides = repository.writing and not certain
    if decides and status in HEAD_REFUSED and learned.refusals_agree:
        return None
    found = await _head_by_get(repository, reference, certain=certain)
    if status in HEAD_UNSUPPORTED:
        learned.manifest_heads.unsupported()
    elif found is not None:
        learned.manifest_heads.contradicted()
    return found


async def _head_by_get(
    repository: Repository, reference: str, *, certain: bool, stored: bool = True
) -> ManifestHead | None:
    try:
        manifest = await get(repository, reference, stored=stored)
    except (ImageNotFound, RepositoryMissing):
        return None
    except (Denied, PushRejected) as error:
        refused = refusal_of(error)
        if certain or not repository.writing:
            raise
        if refused is None or refused.status not in HEAD_REFUSED:
            raise
        repository.client.learned.refusals_agree = True
        return None
    repository.client.kept.keep(repository.name, manifest)
    return ManifestHead(manifest.digest, manifest.media_type, len(manifest.raw))


async def get(repository: Repository, reference: str, *, stored: bool = True) -> Manifest:
    """Read a manifest by tag or digest. ``stored``: one that was read just now will do.

    Raises:
        ImageNotFound, RepositoryMissing: there is none.
        DigestMismatch: what came is not what was asked for, or not what the registry calls it.
        ManifestUnsupported: schema 1, or a kind that is not known.
        PushError: the registry refuses, or does not answer.
    """
    kept = repository.client.kept.get(repository.name, reference) if stored else None
    if kept is not None:
        return kept
    what = name_of(repository, reference)
    request = Request(
        "GET",
        await repository.url(f"manifests/{quote(reference, safe=':')}"),
        repository.scopes,
        what,
        headers=_ACCEPT,
    )
    with reading(repository.client.manifest_memory) as share:
        answer = await _asked(repository, request, share)
        if answer.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            raise AnswerMalformed(f"{what}: the registry compressed it, which was not asked for")
        digest = reference if digests.is_digest(reference) else None
        found = parse_manifest(
            answer.body,
            what=what,
            digest=digest or _said(answer.headers),
            content_type=answer.headers.get("Content-Type", ""),
        )
        if not share.take(cost_of(found)):
            await share.enlarge()
        return found


async def _asked(repository: Repository, request: Request, share: Share) -> Answer:
    """A manifest's answer, of which a share reads no more than it has room for."""
    small = not share.is_large
    try:
        with share.incoming() as taken:
            return await repository.client.ask(request, limit=MANIFEST_LIMIT, taken=taken)
    except NoRoom as error:
        if not small:
            raise ManifestUnsupported(f"{request.about}: {error}") from None
    # The connection is not held while this waits.
    await share.enlarge()
    return await _asked(repository, request, share)


async def put(
    repository: Repository, reference: str, manifest: Manifest, *, timeout_s: float | None = None
) -> Written:
    """Write a manifest's bytes under a tag or its digest.

    It is given up after ``timeout_s`` seconds where that is sooner than usual.

    Raises:
        BlobMissing: the registry lacks something that the manifest names.
        ImmutableTag: the tag is another manifest's and may not move.
        PushError: the registry refuses, or does not answer.
    """
    what = name_of(repository, reference)
    request = Request(
        "PUT",
        await repository.url(f"manifests/{quote(reference, safe=':')}"),
        repository.scopes,
        what,
        headers={"Content-Type": manifest.media_type},
        body=manifest.raw,
        # 200 and 202 are not in the specification, and were seen. They are confirmed.
        expected=frozenset({200, 201, 202}),
        total_s=EXCHANGE_S if timeout_s is None else min(timeout_s, EXCHANGE_S),
    )
    answer = await repository.client.ask(request, limit=ERROR_LIMIT)
    said = answer.headers.get("Docker-Content-Digest", "")
    same_kind = digests.algorithm_of(said) == digests.algorithm_of(manifest.digest)
    if digests.is_digest(said) and same_kind and said != manifest.digest:
        raise DigestMismatch(f"{what}: {manifest.digest} was written, the registry has {said}")
    if answer.status != 201 or not digests.is_digest(said):
        await _confirm(repository, reference, manifest, answer.status)
    return Written(manifest.digest, "OCI-Subject" in answer.headers)


async def _confirm(repository: Repository, reference: str, manifest: Manifest, status: int) -> None:
    """Return if the registry has a manifest whose write it did not answer by 201 and its digest.

    Such an answer may be a page, or an error's text, or hide that the manifest was rewritten.

    Raises:
        AnswerMalformed: it does not have it, or does not show it.
    """
    # By its bytes: HEAD could say yes to everything.
    found = await _head_by_get(repository, reference, certain=False, stored=False)
    if found is None or found.digest != manifest.digest:
        has = f"has {found.digest}" if found is not None else "does not have it"
        raise AnswerMalformed(
            f"{name_of(repository, reference)}: the registry answered its write with "
            f"{status}{', not 201,' if status != 201 else ' without its digest'} and {has}"
        )


def name_of(repository: Repository, reference: str) -> str:
    """``host/repository:tag`` or ``host/repository@digest``, for messages."""
    return f"{repository}{'@' if digests.is_digest(reference) else ':'}{reference}"


def _said(headers: Mapping[str, str]) -> str | None:
    """The digest that the registry names, to be verified; ``None``: none that can be."""
    said = headers.get("Docker-Content-Digest", "")
    return said if digests.is_digest(said) else None
