"""Whether a registry's answers to HEAD mean anything: one that says yes to everything is caught.

A target that never said no is asked once for what nobody has. A healthy registry mostly says no
before that, to the first blob that it lacks, and then nothing is asked.
"""

from __future__ import annotations

import secrets

from transship.errors import PushRejected, RegistryUnavailable
from transship_worker.oci.client import Repository
from transship_worker.oci.exchange import Request
from transship_worker.oci.learned import HEAD_REFUSED, HeadSupport


async def can_say_no(repository: Repository, heads: HeadSupport, kind: str) -> bool:
    """Whether a yes of this registry counts. ``kind``: ``blobs`` or ``manifests``.

    Asked of targets alone: what a source has is read, and verified.

    Raises:
        PushError: the registry refuses the login, or does not answer.
    """
    if not repository.writing or heads.says_no:
        return True
    async with heads.asking:
        return await _asked(repository, heads, kind)


async def _asked(repository: Repository, heads: HeadSupport, kind: str) -> bool:
    # Another one may have asked meanwhile.
    if heads.says_no or heads.useless:
        return heads.says_no
    nobodys = f"sha256:{secrets.token_hex(32)}"
    request = Request(
        "HEAD",
        await repository.url(f"{kind}/{nobodys}"),
        repository.scopes,
        f"{repository}@{nobodys}",
        expected=frozenset({200, 404}) | HEAD_REFUSED,
    )
    try:
        answer = await repository.client.ask(request, limit=0)
    except (PushRejected, RegistryUnavailable):
        # That is no yes.
        heads.says_no = True
        return True
    if answer.status == 200:
        heads.unsupported()
    else:
        heads.says_no = True
    return heads.says_no
