"""Lists, existence, and what was deleted."""

from __future__ import annotations

from tests.matrix.registries import shapes
from tests.matrix.registries.copies import copy_back
from tests.matrix.registries.ground import Ground, check_failed
from tests.matrix.registries.shapes import Shape
from tests.matrix.registries.wire import expect

#: More than one page of 1,000, which the worker asks for.
TAGS = 1_500
REPOSITORIES = 120
#: No registry can hold an image under these.
NOT_TAGS = (f"sha256:{'1607' * 16}", ".hidden", "a" * 129)


def tags(ground: Ground) -> None:
    """All tags of a repository that has more than a page."""
    wanted = _fill_tags(ground)
    planned = ground.plan("tags-1500")
    planned.succeeded()
    found = {tag for row in planned.rows for tag in row.tags}
    expect(found == wanted, f"{len(found)} of {len(wanted)} tags were planned")


def _fill_tags(ground: Ground) -> set[str]:
    """Fill a repository that two cases share; the tags."""
    names = {f"v{n:04}" for n in range(TAGS)}
    repository = "lab/tags-1500"
    if len(ground.running.filler.tags(repository)) < 100:
        ground.running.creates(repository)
        shape = shapes.small_image("tags")
        shape.put(ground.running.filler, repository)
        ((digest, served),) = shape.manifests.items()
        ground.running.tag(repository, sorted(names), digest, served)
    return names


def repositories(ground: Ground) -> None:
    wanted = {f"repositories/r{n:03}" for n in range(REPOSITORIES)}
    for name in sorted(wanted):
        shape = shapes.small_image("repositories", tag="v1")
        ground.fill(shape, f"/{name.partition('/')[2]}")
    planned = ground.plan("repositories/**")
    planned.succeeded()
    found = {row.source.repository for row in planned.rows}
    expect(found == wanted, f"{len(found)} of {len(wanted)} repositories were planned")


def invalid_tags(ground: Ground) -> None:
    """The server before the registry adds names that are no tags."""
    ground.fill(shapes.single(ground.case, tag="1.10"))
    planned = ground.plan(ground.name)
    planned.succeeded()
    found = [tag for row in planned.rows for tag in row.tags]
    expect(found == ["1.10"], f"planned: {found}")
    planned.warned(rf"\b{len(NOT_TAGS)}\b")


def login_only(ground: Ground) -> None:
    """A registry that says 404 to whoever has not logged in."""
    shape = shapes.attested_index(ground.case)
    ground.copy(shape)
    copy_back(ground, shape)


def wrong_login(ground: Ground) -> None:
    source = ground.hold(shapes.single(ground.case))
    check_failed(ground.copied(f"{source}:v1", ground.target()), "denied")


def gutted(ground: Ground) -> None:
    """A repository whose only manifest was deleted is still in the list."""
    gone, stays = shapes.single("gone"), shapes.single("stays")
    ground.fill(gone, "/gone")
    ground.fill(stays, "/stays")
    ground.wire.delete_manifest(f"{ground.repository}/gone", gone.tags["v1"], tag="v1")
    planned = ground.plan(f"{ground.name}/**")
    planned.succeeded()
    found = [row.source.repository for row in planned.rows]
    expect(found == [f"{ground.name}/stays"], f"planned: {found}")


def lacks_child(ground: Ground) -> None:
    """An index at the source of which one image was deleted."""
    shape = shapes.attested_index(ground.case)
    ground.fill(shape)
    child = next(iter(shape.manifests))
    ground.wire.delete_manifest(ground.repository, child)
    into = f"{ground.other.address}/{ground.repository}/back:v1"
    record = ground.copied(ground.target(), into)
    check_failed(record, "image_not_found", child)


def conflict(ground: Ground) -> None:
    """Another image under the tag: ``fail`` leaves it, ``overwrite`` replaces it."""
    old, new = shapes.single("old"), shapes.single("new")
    ground.fill(old)
    ground.hold(new)
    failed = ground.migrate(ground.name, on_conflict="fail")
    expect(len(failed.jobs) == 1, f"{len(failed.jobs)} jobs; {failed.record.failures}")
    (job,) = failed.jobs
    # Planning finds it: no attempt is started.
    check_failed(job, "tag_conflict", "v1", attempts=0)
    _tag_is(ground, old)
    ground.migrate(ground.name, on_conflict="overwrite").succeeded()
    _tag_is(ground, new)
    new.check(ground.wire, ground.repository)


def _tag_is(ground: Ground, shape: Shape) -> None:
    served = ground.wire.manifest(ground.repository, "v1")
    expect(served and served.body == shape.top("v1").body, "the tag has another image")
