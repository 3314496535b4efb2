"""The images that copies are tested with are what they say, in any registry."""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import tarfile
import zlib

import pytest

from tests.support.images.corpus import (
    KIB,
    Corpus,
    Layer,
    hundred_tags,
    large_layers,
    many_tags,
    separate_layers,
    shared_layers,
    thousand_images,
)
from tests.support.images.corpus_fill import fill, fill_with_links
from tests.support.processes import program
from tests.support.servers.registry import Registry
from tests.support.strict_registry.registry import Rules, StrictRegistry, TokenRules

SMALL = shared_layers(3, 2, shared=2, shared_size=100 * KIB, own_size=5 * KIB, seed="small")


def missing(registry: Registry | StrictRegistry, corpus: Corpus) -> list[str]:
    """Images that the registry does not hold as they are."""
    return [
        image.name
        for image in corpus.images
        if registry.digest(image.repository, image.tag) != image.digest
    ]


@pytest.mark.parametrize("size", [1_600, 65_553, 65_554, 131_090, 3 * 2**20 + 17])
def test_a_layer_is_a_real_archive_of_exactly_its_size(size: int) -> None:
    layer = Layer("any", size)
    data = b"".join(layer.pieces())
    tar = gzip.decompress(data)

    assert len(data) == size
    assert f"sha256:{hashlib.sha256(data).hexdigest()}" == layer.digest
    assert f"sha256:{hashlib.sha256(tar).hexdigest()}" == layer.diff_id
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        (entry,) = archive
        file = archive.extractfile(entry)
        assert file is not None
        assert len(file.read()) == entry.size


@pytest.mark.parametrize("size", [2**20, 5 * 2**20])
def test_a_layer_is_the_same_for_its_seed_another_for_another_and_does_not_compress(
    size: int,
) -> None:
    one, same, other = (b"".join(Layer(s, size).pieces()) for s in ("one", "one", "other"))
    assert one == same
    assert one != other
    assert len(zlib.compress(one)) > 0.99 * size


def test_the_corpora_have_the_sizes_that_they_are_known_for() -> None:
    hundred, thousand, many = hundred_tags(), thousand_images(), many_tags()

    assert (len(hundred.images), len(hundred.repositories)) == (100, 20)
    layers = {layer.digest: layer.size for image in hundred.images for layer in image.layers}
    assert sum(layers.values()) == (5 * 8 + 100) * 2**20
    assert (len(thousand.images), len(thousand.repositories)) == (1000, 200)
    assert len({image.digest for image in thousand.images}) == 1000
    assert len(many.images) == 10_000
    assert len({image.digest for image in many.images}) == 10
    assert len(separate_layers(16, 2_000).blobs) == 2 * 16


@pytest.mark.registry
def test_a_registry_is_filled_and_other_tools_read_it(plain_registry: Registry) -> None:
    fill(plain_registry.base, SMALL)
    assert missing(plain_registry, SMALL) == []
    image = SMALL.images[-1]
    layer = image.layers[-1]
    assert plain_registry.blob(image.repository, layer.digest) == b"".join(layer.pieces())


@pytest.mark.registry
def test_many_tags_are_written_as_the_files_that_they_are(plain_registry: Registry) -> None:
    corpus = many_tags(60, 3, repositories=2)
    fill_with_links(plain_registry.base, corpus, plain_registry.data)
    assert missing(plain_registry, corpus) == []
    assert len(plain_registry.list_tags("many/app000")) == 30


def test_a_strict_registry_is_filled_with_each_blob_once() -> None:
    with StrictRegistry(Rules(tokens=TokenRules({"u": "p"}))) as registry:
        fill(registry.base, SMALL, registry.authorize)
        assert missing(registry, SMALL) == []
        assert dict(registry.counts.uploaded) == SMALL.blobs


@pytest.mark.registry
def test_skopeo_copies_an_image_without_changing_its_digest(plain_registry: Registry) -> None:
    skopeo = program("skopeo")
    corpus = large_layers(2, 300 * KIB, seed="skopeo")
    fill(plain_registry.base, corpus)
    (image,) = corpus.images
    with StrictRegistry(Rules(mounts=False)) as strict:
        plain = ["--src-tls-verify=false", "--dest-tls-verify=false"]
        names = [f"docker://{one.address}/{image.name}" for one in (plain_registry, strict)]
        subprocess.run([skopeo, "--insecure-policy", "copy", *plain, *names], check=True)
        assert missing(strict, corpus) == []
