"""Refusals and limits: of a registry, or of a server before it."""

from __future__ import annotations

from tests.matrix.registries import shapes
from tests.matrix.registries.copies import copy_back
from tests.matrix.registries.ground import Ground, check_failed
from tests.matrix.registries.shapes import Shape, noise
from tests.matrix.registries.wire import expect

#: What the server before the registry takes in one body. Unit: bytes.
MOST_BODY = 1_000_000


def head_refused(ground: Ground) -> None:
    """No HEAD is answered: GET and the writes decide."""
    shape = shapes.attested_index(ground.case)
    ground.copy(shape)
    copy_back(ground, shape)


def throttled(ground: Ground) -> None:
    """The first requests get 429: the job waits in place."""
    shape = shapes.single(ground.case)
    ground.copy(shape)
    expect(ground.front.throttled, "no request was throttled")


def refuses_writes(ground: Ground) -> None:
    source = ground.hold(shapes.single(ground.case))
    check_failed(ground.copied(f"{source}:v1", ground.target()), "registry_read_only")
    served = ground.wire.manifest(ground.repository, "v1")
    expect(served is None, "the tag is there")


def _large(ground: Ground) -> Shape:
    shape = Shape()
    layer = shape.add_blob(noise(3 * MOST_BODY + 17, ground.case))
    shape.add_image(layer, config=shapes.config([layer["digest"]]), tag="v1")
    return shape


def too_large(ground: Ground) -> None:
    source = ground.hold(_large(ground))
    record = ground.copied(f"{source}:v1", ground.target())
    check_failed(record, "body_too_large", "max_body")


def chunked(ground: Ground) -> None:
    ground.copy(_large(ground))
    chunks = ground.front.count("PATCH", "PUT", kind="uploads")
    expect(chunks >= 4, f"a layer of {3 * MOST_BODY} bytes came in {chunks} requests")
    ground.notes.append(f"{ground.front.count('PATCH')} chunks")
