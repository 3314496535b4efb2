"""The cases of the registry matrix, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.matrix.registries import copies, limits, lists, pushes
from tests.matrix.registries.ground import Ground
from tests.matrix.registries.kinds import Trait
from tests.support.proxies.counting import FrontRules

WRITES: Final = frozenset({Trait.WRITES})
PUSHES: Final = frozenset({Trait.WRITES, Trait.ENGINE})
NO_WRITES: Final = frozenset({Trait.NO_WRITES})
ANY: Final = frozenset[Trait]()


@dataclass(frozen=True)
class Case:
    """What is done, and what it needs of a registry."""

    title: str
    run: Callable[[Ground], None]
    needs: frozenset[Trait] = WRITES
    #: How the server before the registry behaves.
    rules: FrontRules = field(default_factory=FrontRules)
    #: More options of the registry's component.
    options: Mapping[str, Any] = field(default_factory=dict)


_WRONG: Final = {"password": "not the password"}
_NO_HEAD: Final = {"manifests": 405, "blobs": 405}
_DENIED_HEAD: Final = {"manifests": 403, "blobs": 403}

CASES: Final[Mapping[str, Case]] = {
    "push": Case("push, one layer", pushes.one_layer, PUSHES),
    "push-layers": Case("push, three layers", pushes.several_layers, PUSHES),
    "push-stream": Case("push by `stream`", pushes.streamed, PUSHES),
    "push-again": Case("push again: nothing is sent", pushes.again, PUSHES),
    "push-wrong-login": Case(
        "push with a wrong password: denied at once",
        pushes.wrong_login,
        PUSHES | {Trait.PASSWORD},
        options=_WRONG,
    ),
    "push-refused": Case(
        "push to a registry that takes no writes: refused at once",
        pushes.refused,
        NO_WRITES | {Trait.ENGINE},
    ),
    "copy": Case("copy an image", copies.image),
    "copy-docker": Case("copy a Docker image (schema 2)", copies.docker_image),
    "copy-index": Case("copy an index with attestations", copies.index),
    "copy-again": Case("copy again: nothing is sent", copies.again),
    "copy-from": Case("copy from it", copies.back, ANY),
    "copy-refused": Case(
        "copy to a registry that takes no writes: refused at once",
        limits.refuses_writes,
        NO_WRITES,
    ),
    "referrers-later": Case("referrer and cosign tag that came later", copies.referrers_later),
    "artifact": Case("artifact with layers of any media type", copies.artifact),
    "nondistributable": Case("nondistributable layer without URLs", copies.nondistributable),
    "foreign-held": Case("foreign layer that the source holds", copies.foreign_held),
    "foreign-reference": Case(
        "foreign layer that the source does not hold", copies.foreign_reference
    ),
    "index-of-blobs": Case("index whose entries are blobs (BuildKit)", copies.index_of_blobs),
    "untyped": Case("OCI manifest without `mediaType` as Docker's type", copies.untyped),
    "empty-layers": Case("empty layers, a layer listed twice", copies.empty_layers),
    "no-layers": Case("image without layers", copies.no_layers),
    "empty-config": Case("image with an empty config", copies.empty_config),
    "sha512-layer": Case("sha512 layer", copies.sha512_layer),
    "sha512-manifest": Case("sha512 manifest in an index", copies.sha512_manifest),
    "mounted": Case(
        "same image in a second repository: mounted", copies.mounted, WRITES | {Trait.MOUNTS}
    ),
    "many-tags": Case("40 tags of one image at once, each at the first attempt", copies.many_tags),
    "tags": Case("1,500 tags are listed", lists.tags, ANY),
    "tags-no-link": Case("1,500 tags, no `Link`", lists.tags, ANY, FrontRules(links=False)),
    "repositories": Case(
        "120 repositories are listed", lists.repositories, frozenset({Trait.CATALOG})
    ),
    "invalid-tags": Case(
        "names that are no tags: skipped, one warning",
        lists.invalid_tags,
        ANY,
        FrontRules(more_tags=lists.NOT_TAGS),
    ),
    "login-only": Case(
        "404 without a login, from and to",
        lists.login_only,
        WRITES | {Trait.LOGIN},
        FrontRules(hidden=True),
    ),
    "wrong-login": Case(
        "copy with a wrong password: denied at once",
        lists.wrong_login,
        WRITES | {Trait.PASSWORD},
        options=_WRONG,
    ),
    "gutted": Case(
        "listed repository whose manifests were deleted",
        lists.gutted,
        frozenset({Trait.WRITES, Trait.DELETES, Trait.CATALOG}),
    ),
    "lacks-child": Case(
        "index that lacks an image: fails and names it",
        lists.lacks_child,
        WRITES | {Trait.DELETES},
    ),
    "conflict": Case("another image under the tag: `on_conflict`", lists.conflict),
    "head-refused": Case(
        "HEAD refused (405), from and to",
        limits.head_refused,
        rules=FrontRules(head=_NO_HEAD),
    ),
    "head-denied": Case(
        "HEAD denied (403), from and to",
        limits.head_refused,
        rules=FrontRules(head=_DENIED_HEAD),
    ),
    "throttled": Case(
        "429 with `Retry-After`: one attempt",
        limits.throttled,
        rules=FrontRules(throttle_first=5),
    ),
    "too-large": Case(
        "body limit of 1 MB: refused at once, names `max_body`",
        limits.too_large,
        rules=FrontRules(max_body=limits.MOST_BODY),
    ),
    "chunks": Case(
        "body limit of 1 MB, `max_body`: sent in chunks",
        limits.chunked,
        WRITES | {Trait.CHUNKS},
        FrontRules(max_body=limits.MOST_BODY),
        {"max_body": limits.MOST_BODY},
    ),
}
