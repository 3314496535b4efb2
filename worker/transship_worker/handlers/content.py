"""What of the fleet's content serves an account: hints, leases and the images of an engine.

An account that knows the digest of another's layer, or the name of another's image in an engine,
gets neither. Without the catalog's section ``accounts`` everything serves everybody.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator
from itertools import chain

from transship.errors import InvalidReference, NotAllowed
from transship.model.references import DOCKER_HUB, ImageReference
from transship.model.rights import Rights, Verb, repository_in
from transship_worker.jobs.handler import Components
from transship_worker.transports.engine.identity import ImageNames


def content_scope(rights: Rights, components: Components) -> str:
    """Whose hints and upload leases serve a job; empty: those of the whole fleet.

    Those of the account with these very rights. So what it could read before its rights changed, or
    may not read within the scope of one request, does not serve it.
    """
    if rights.everything:
        return ""
    grants = [one for one in (rights.grants, *rights.scopes) if one is not None]
    patterns = chain.from_iterable(one.patterns(verb) for one in grants for verb in Verb)
    named = sorted({one.entry for one in patterns})
    # An entry of the same name may be another place by now.
    places = [
        str(components.registries[one].registry_uri)
        for one in named
        if one in components.registries
    ]
    text = json.dumps([[one.as_json() for one in grants], places], sort_keys=True)
    return f"{rights.account}.{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def check_local_image(
    names: ImageNames, image_id: str, rights: Rights, components: Components
) -> None:
    """Return if the account may push an image that an engine holds.

    It may not where the engine knows the image only by names of repositories that the account may
    neither push to nor copy from. A name that is in no registry of the catalog, or no name at all,
    does not say whose the image is.

    Raises:
        NotAllowed: the names are not shown, which may be another account's.
    """
    if rights.everything or not _is_of_others(names, rights, components):
        return
    raise NotAllowed(
        f"{rights.name} may not push image {image_id[:19]}: the engine knows it only by names of "
        f"repositories that the account may neither push to nor copy from; "
        f"{rights.describe(Verb.PUSH)}"
    )


def _is_of_others(names: ImageNames, rights: Rights, components: Components) -> bool:
    pulled = {text.partition("@")[0] for text in names.digests}
    found = False
    for text in (*names.tags, *names.digests):
        try:
            name = ImageReference.parse(text)
        except InvalidReference:
            # `<none>:<none>`, as some engines call an image without a name.
            continue
        covering = list(_covering(name, components))
        verbs = (Verb.PUSH, Verb.COPY_FROM)
        may = any(rights.may(verb, *one) for one in covering for verb in verbs)
        if may or not covering or _is_local(text, name, pulled):
            return False
        found = True
    return found


def _is_local(text: str, name: ImageReference, pulled: Collection[str]) -> bool:
    """Whether a name without a host is not Docker Hub's.

    ``app`` may be built here, or be an official image of Docker Hub, which everybody may read.
    ``team/app`` is Docker Hub's where the engine lists a digest of it; the containerd image store
    always does.
    """
    if name.host != DOCKER_HUB or text.startswith(f"{DOCKER_HUB}/"):
        return False
    bare = text.partition("@")[0]
    bare = bare.rpartition(":")[0] or bare
    return "/" not in bare or bare not in pulled


def _covering(name: ImageReference, components: Components) -> Iterator[tuple[str, str]]:
    """Registry entries under which an image lies, and its repository there."""
    for entry, component in components.registries.items():
        repository = repository_in(name, component.registry_uri)
        if repository is not None:
            yield entry, repository
