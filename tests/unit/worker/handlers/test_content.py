"""What serves an account: the scope of its hints, and images of an engine."""

from __future__ import annotations

from typing import Any

import pytest

from transship.errors import NotAllowed
from transship.model.rights import Grants, Rights, all_rights
from transship_worker.catalog.model import Components
from transship_worker.flavors.default import DefaultRegistry
from transship_worker.handlers.content import check_local_image, content_scope
from transship_worker.transports.engine.identity import ImageNames

ID = f"sha256:{'1' * 64}"


def components(**uris: str) -> Components:
    """A catalog with these registries."""
    return Components({name: DefaultRegistry(name=name, uri=uri) for name, uri in uris.items()})


CATALOG = components(prod="registry.example.com/ml", hub="docker.io", dev="localhost:5000")


def rights(account: str = "team-b", **grants: list[str]) -> Rights:
    return Rights(account, Grants.of(grants))


def names(*tags: str, digests: tuple[str, ...] = ()) -> ImageNames:
    return ImageNames(tags, tuple(f"{name}@{ID}" for name in digests))


B = rights(push=["prod/b/**"], copy_from=["prod/shared/*", "dev"])

ACCEPTED: dict[str, ImageNames] = {
    "its own": names("registry.example.com/ml/b/app:1"),
    "its own among others": names(
        "registry.example.com/ml/a/app:1", "registry.example.com/ml/b/app:1"
    ),
    "what it may copy from": names("registry.example.com/ml/shared/base:1"),
    "all of an entry": names("localhost:5000/anything:1"),
    "no name": names(),
    "the none of an older engine": ImageNames(("<none>:<none>",), ("<none>@<none>",)),
    "a name of no registry in the catalog": names("quay.example.com/a/app:1"),
    "a repository beside the entry's": names("registry.example.com/mlx/a:1"),
    "a name of Podman's": names("localhost/a/app:1"),
    "a short name": names("app:1"),
    "a short name in the containerd image store": names("app:1", digests=("app",)),
    "a short name of two parts that was made here": names("a/app:1"),
    "a short name beside another account's": names("a/app:1", "registry.example.com/ml/a/app:1"),
}
REFUSED: dict[str, ImageNames] = {
    "another account's": names("registry.example.com/ml/a/app:1"),
    "another account's, by digest alone": names(digests=("registry.example.com/ml/a/app",)),
    "below what it may copy from": names("registry.example.com/ml/shared/a/base:1"),
    "two of others": names("registry.example.com/ml/a/app:1", "registry.example.com/ml/c/app:1"),
    "Docker Hub's, pulled": names("a/app:1", digests=("a/app",)),
    "Docker Hub's, in full": names("docker.io/a/app:1"),
    "only a digest on Docker Hub": names(digests=("a/app",)),
}


@pytest.mark.parametrize("held", ACCEPTED.values(), ids=ACCEPTED)
def test_an_image_that_is_nobody_elses_is_accepted(held: ImageNames) -> None:
    check_local_image(held, ID, B, CATALOG)
    # It is a matter of rights alone.
    with pytest.raises(NotAllowed):
        check_local_image(names("registry.example.com/ml/a/app:1"), ID, B, CATALOG)


@pytest.mark.parametrize("held", REFUSED.values(), ids=REFUSED)
def test_an_image_of_others_alone_is_refused_without_its_names(held: ImageNames) -> None:
    with pytest.raises(NotAllowed) as caught:
        check_local_image(held, ID, B, CATALOG)

    assert caught.value.message == (
        "account team-b may not push image sha256:111111111111: the engine knows it only by names "
        "of repositories that the account may neither push to nor copy from; it may push to "
        "prod/b/**"
    )
    check_local_image(held, ID, all_rights("team-b"), CATALOG)


def test_an_entry_that_overlaps_gives_its_own_rights() -> None:
    catalog = components(prod="registry.example.com", b="registry.example.com/ml/b")
    held = names("registry.example.com/ml/b/app:1")

    check_local_image(held, ID, rights(push=["b"]), catalog)
    with pytest.raises(NotAllowed):
        check_local_image(held, ID, rights(push=["prod/ml/a/**"]), catalog)


def test_the_scope_of_a_request_narrows_which_images_are_accepted() -> None:
    narrow = B.intersect(Grants.of({"push": ["prod/b/app"]}))

    check_local_image(names("registry.example.com/ml/b/app:1"), ID, narrow, CATALOG)
    with pytest.raises(NotAllowed, match="the request's scope has prod/b/app"):
        check_local_image(names("registry.example.com/ml/b/other:1"), ID, narrow, CATALOG)


def test_without_rights_all_share_hints() -> None:
    assert content_scope(all_rights("team-b"), CATALOG) == ""


def scope(of: Rights, catalog: Components = CATALOG) -> str:
    found = content_scope(of, catalog)
    assert found.startswith(f"{of.account}.")
    # It becomes a part of keys, before an `@`.
    assert not set(found) & set(":@/")
    return found


def test_an_account_shares_hints_with_itself() -> None:
    assert scope(B) == scope(rights(push=["prod/b/**"], copy_from=["prod/shared/*", "dev"]))


@pytest.mark.parametrize(
    "other",
    [
        rights("team-a", push=["prod/b/**"], copy_from=["prod/shared/*", "dev"]),
        rights(push=["prod/b/**"], copy_from=["prod/shared/*"]),
        rights(push=["prod/b/**"], copy_to=["prod/shared/*", "dev"]),
        B.intersect(Grants.of({"push": ["prod/b/**"]})),
        B.intersect(Grants()),
        rights(),
    ],
    ids=["account", "fewer", "verb", "request's scope", "empty scope", "none"],
)
def test_other_rights_have_other_hints(other: Rights) -> None:
    assert scope(other) != scope(B)


def test_an_entry_that_is_another_place_has_other_hints() -> None:
    moved = components(prod="registry.example.com/other", hub="docker.io", dev="localhost:5000")
    more: dict[str, Any] = {"prod": "registry.example.com/ml", "more": "quay.example.com"}

    assert scope(B, moved) != scope(B)
    # What the rights do not name changes nothing.
    assert scope(rights(push=["prod/b/**"]), components(**more)) == scope(
        rights(push=["prod/b/**"])
    )
