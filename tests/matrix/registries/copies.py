"""Copies of whole images of every shape."""

from __future__ import annotations

import gzip
import io
import json
import tarfile

from tests.matrix.registries import shapes
from tests.matrix.registries.ground import OTHER, Ground, ended
from tests.matrix.registries.shapes import OCI_INDEX, OCI_MANIFEST, Shape, noise
from tests.matrix.registries.wire import digest_of, expect

URLS = ["https://example.com/base.tar.gz"]
#: Copies of one image at once.
AT_ONCE = 40


def image(ground: Ground) -> None:
    ground.copy(shapes.single(ground.case))


def docker_image(ground: Ground) -> None:
    ground.copy(shapes.docker_image(ground.case))


def index(ground: Ground) -> None:
    ground.copy(shapes.attested_index(ground.case))


def again(ground: Ground) -> None:
    shape = shapes.attested_index(ground.case)
    ground.copy(shape)
    with ground.front.counting() as asked:
        source = ground.hold(shape)
        ground.judge(ground.copied(f"{source}:v1", ground.target()), skipped=True)
    ground.no_bytes()
    ground.notes.append(f"{len(asked)} requests")


def back(ground: Ground) -> None:
    """The registry as the source."""
    shape = shapes.attested_index(ground.case)
    ground.fill(shape)
    copy_back(ground, shape)


def copy_back(ground: Ground, shape: Shape) -> None:
    """Copy from the registry to the stand-in, and compare."""
    into = f"{ground.repository}/back"
    record = ground.copied(ground.target(), f"{ground.other.address}/{into}:v1")
    ground.judge(record)
    shape.check(ground.other_wire, into)


def referrers_later(ground: Ground) -> None:
    shape = shapes.single(ground.case)
    source = ground.hold(shape)
    ground.judge(ground.copied(f"{source}:v1", ground.target(), referrers=True))
    shape.check(ground.wire, ground.repository)
    subject = shape.tags["v1"]
    added = Shape()
    statement = added.add_blob(noise(300, f"{ground.case}/sbom"), "application/spdx+json")
    described = shapes.describe(shape.top("v1").body, OCI_MANIFEST)
    sbom = added.add_image(statement, artifactType="application/spdx+json", subject=described)
    signature = added.add_blob(noise(200, f"{ground.case}/sig"), "application/vnd.dev.cosign")
    added.add_image(signature, config=b"{}", tag=f"{subject.replace(':', '-')}.sig")
    added.hold(ground.other, ground.repository)
    with ground.front.counting() as asked:
        ground.judge(ground.copied(f"{source}:v1", ground.target(), referrers=True))
    added.check(ground.wire, ground.repository)
    expect(sbom["digest"] in _referrers(ground, subject), "the referrer is not listed")
    blobs = set(shape.blobs) - set(added.blobs)
    again = [one.path for one in asked if one.method == "PUT" and _names(one.path, blobs)]
    expect(not again, f"blobs of the image were sent again: {again}")


def _referrers(ground: Ground, subject: str) -> list[str]:
    """Digests in the list of referrers, by the API or by the fallback tag."""
    answer = ground.wire.ask("GET", f"{ground.repository}/referrers/{subject}")
    if answer.ok:
        body = answer.json()
    else:
        served = ground.wire.manifest(ground.repository, subject.replace(":", "-"))
        expect(served is not None, "neither a referrers API nor its fallback tag")
        assert served is not None
        body = json.loads(served.body)
    return [one["digest"] for one in body["manifests"]]


def _names(path: str, digests: set[str]) -> bool:
    return any(digest in path.replace("%3A", ":") for digest in digests)


def artifact(ground: Ground) -> None:
    shape = Shape()
    layers = [
        shape.add_blob(noise(2_000, f"{ground.case}/{kind}"), kind)
        for kind in (
            "application/vnd.acme.schema.foreign-keys.v1+json",
            "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
            "application/octet-stream",
        )
    ]
    shape.add_image(*layers, tag="v1", artifactType="application/vnd.acme.model")
    ground.copy(shape)


def nondistributable(ground: Ground) -> None:
    shape = Shape()
    data, diff_id = shapes.layer(3_000, ground.case)
    layer = shape.add_blob(data, shapes.NONDISTRIBUTABLE)
    shape.add_image(layer, config=shapes.config([diff_id]), tag="v1")
    ground.copy(shape)


def _foreign(ground: Ground) -> tuple[Shape, str]:
    shape = Shape()
    base, base_id = shapes.layer(3_000, f"{ground.case}/base")
    own, own_id = shapes.layer(3_000, f"{ground.case}/own")
    foreign = shape.add_blob(base, shapes.DOCKER_FOREIGN, urls=URLS)
    shape.add_manifest(
        {
            "mediaType": shapes.DOCKER_MANIFEST,
            "config": shape.add_blob(shapes.config([base_id, own_id]), shapes.DOCKER_CONFIG),
            "layers": [foreign, shape.add_blob(own, shapes.DOCKER_LAYER)],
        },
        tag="v1",
    )
    return shape, foreign["digest"]


def foreign_held(ground: Ground) -> None:
    shape, _ = _foreign(ground)
    ground.copy(shape)


def foreign_reference(ground: Ground) -> None:
    """A foreign layer that the source does not hold either."""
    shape, absent = _foreign(ground)
    del shape.blobs[absent]
    record = ground.copy(shape)
    expect(any(absent in one for one in record.warnings), f"warnings: {record.warnings}")


def index_of_blobs(ground: Ground) -> None:
    """A BuildKit registry cache: the entries are layers and a config."""
    shape = Shape()
    layers = [
        shape.add_blob(shapes.layer(3_000, f"{ground.case}/{n}")[0], shapes.OCI_LAYER)
        for n in range(2)
    ]
    config = shape.add_blob(b'{"layers":[],"records":[]}', shapes.BUILDKIT_CACHE)
    shape.add_manifest({"mediaType": OCI_INDEX, "manifests": [*layers, config]}, tag="v1")
    ground.copy(shape)


def untyped(ground: Ground) -> None:
    """An OCI manifest without ``mediaType`` that its source serves under Docker's type."""
    shape = Shape()
    data, diff_id = shapes.layer(3_000, ground.case)
    fields = {
        "config": shape.add_blob(shapes.config([diff_id]), shapes.OCI_CONFIG),
        "layers": [shape.add_blob(data)],
    }
    shape.add_manifest(fields, tag="v1", served_as=shapes.DOCKER_MANIFEST)
    ground.copy(shape)
    served = ground.wire.manifest(ground.repository, "v1")
    expect(
        served and served.media_type == OCI_MANIFEST, f"served as {served and served.media_type}"
    )


def empty_layers(ground: Ground) -> None:
    """A layer of an empty tar, one of no bytes at all, and one that is listed twice."""
    shape = Shape()
    data, diff_id = shapes.layer(2_000, ground.case)
    buffer = io.BytesIO()
    tarfile.open(fileobj=buffer, mode="w").close()
    empty = gzip.compress(buffer.getvalue(), mtime=0)
    layers = [shape.add_blob(one) for one in (data, empty, b"", data)]
    config = shapes.config([diff_id, digest_of(buffer.getvalue()), "", diff_id])
    shape.add_image(*layers, config=config, tag="v1")
    ground.copy(shape)


def no_layers(ground: Ground) -> None:
    shape = Shape()
    shape.add_image(config=shapes.config([], note=ground.case), tag="v1")
    ground.copy(shape)


def empty_config(ground: Ground) -> None:
    shape = Shape()
    layer = shape.add_blob(shapes.layer(2_000, ground.case)[0])
    shape.add_image(layer, config=b"{}", tag="v1")
    ground.copy(shape)


def sha512_layer(ground: Ground) -> None:
    shape = Shape()
    data, diff_id = shapes.layer(2_000, ground.case)
    strong = shape.add_blob(data, algorithm="sha512")
    shape.add_image(strong, config=shapes.config([diff_id]), tag="v1")
    ground.copy(shape)


def sha512_manifest(ground: Ground) -> None:
    """An index that names its image by a sha512 digest."""
    shape = Shape()
    data, diff_id = shapes.layer(2_000, ground.case)
    child = shape.add_image(
        shape.add_blob(data), config=shapes.config([diff_id]), algorithm="sha512"
    )
    shape.add_index({**child, "platform": {"os": "linux", "architecture": "amd64"}}, tag="v1")
    ground.copy(shape)


def mounted(ground: Ground) -> None:
    """The same image in a second repository: its blobs are mounted."""
    shape = shapes.single(ground.case, layers=3)
    ground.copy(shape, more="/first")
    with ground.front.counting() as asked:
        ground.copy(shape, more="/second")
    mounts = [one for one in asked if one.kind == "uploads" and one.status == 201]
    sent = [one for one in asked if one.method in {"PUT", "PATCH"} and one.kind == "uploads"]
    expect(not sent, f"{len(sent)} uploads and {len(mounts)} mounts of {len(shape.blobs)} blobs")


def many_tags(ground: Ground) -> None:
    """One image under many tags by as many jobs at once: no job needs a second attempt."""
    shape = shapes.single(ground.case)
    source = ground.hold(shape)
    tags = [f"t{n}" for n in range(AT_ONCE)]
    jobs = [
        ground.site.client.copy(
            f"{source}:v1",
            ground.target(tag),
            source_registry=OTHER,
            target_registry=ground.component,
        )
        for tag in tags
    ]
    for record in [ended(job) for job in jobs]:
        ground.judge(record)
    for tag in tags:
        served = ground.wire.manifest(ground.repository, tag)
        expect(served and served.body == shape.top("v1").body, f"the tag {tag} is another image")
