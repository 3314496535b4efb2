"""``docker save`` archives as sources: from a real engine, from skopeo, older and damaged ones."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.support.images.engine_images import archive, make_image
from tests.support.images.registry_client import make_manifest
from tests.support.processes import program
from transship.errors import (
    AnswerMalformed,
    BlobMissing,
    ImageNotFound,
    ManifestUnsupported,
    NotAllowed,
    PushRejected,
    RepositoryMissing,
)
from transship_worker.layouts.folders import LayoutFolder
from transship_worker.oci import digests
from transship_worker.oci.content import ContentSource
from transship_worker.oci.descriptors import MANIFEST_LIMIT, OCI_INDEX, OCI_MANIFEST

NO_LAYERS = b'{"rootfs": {"diff_ids": []}}'


@pytest.fixture
def folder(tmp_path: Path) -> LayoutFolder:
    (tmp_path / "some").mkdir()
    return LayoutFolder(tmp_path, "images.layout")


@pytest.fixture
def file(tmp_path: Path, folder: LayoutFolder) -> Path:
    return tmp_path / "some/app.tar"


async def opened(folder: LayoutFolder) -> Any:
    return await folder.source("some/app.tar")


async def check(source: ContentSource, reference: str) -> list[str]:
    """Read all of an image and compare it with its digests; returns its layers' digests."""
    manifest = await source.manifest(reference)
    head = await source.head(reference)
    assert head is not None
    assert (head.digest, head.size) == (manifest.digest, len(manifest.raw))
    for child in manifest.children:
        await check(source, child.digest)
    for blob in manifest.blobs:
        async with source.blob(blob.digest) as reader:
            data = b"".join([piece async for piece in reader.pieces()])
        assert (digests.digest_of(data), len(data)) == (blob.digest, blob.size)
        async with source.blob(blob.digest, offset=blob.size // 2) as reader:
            part = b"".join([piece async for piece in reader.pieces()])
        assert part == data[blob.size // 2 :]
    return [layer.digest for layer in manifest.layers]


def tar(files: dict[str, bytes], *links: tuple[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as packed:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
        for name, target in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            packed.addfile(info)
    return buffer.getvalue()


def old(
    layers: dict[str, bytes], *links: tuple[str, str], names: object = ("a/app:1",), **more: bytes
) -> bytes:
    """An archive of one image of the older form, its layers under these names."""
    diffs = [f"sha256:{hashlib.sha256(plain(data)).hexdigest()}" for data in layers.values()]
    rootfs = {"type": "layers", "diff_ids": diffs}
    config = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": rootfs}).encode()
    listed = [{"Config": "config.json", "RepoTags": names, "Layers": list(layers)}]
    files = {**layers, "config.json": config, "manifest.json": json.dumps(listed).encode()}
    return tar({**{k: v for k, v in files.items() if k not in dict(links)}, **more}, *links)


def plain(data: bytes) -> bytes:
    return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data


@pytest.mark.engine
async def test_what_a_real_engine_saved_is_read(
    docker_client: docker.DockerClient, folder: LayoutFolder, file: Path
) -> None:
    names = ("example.com/acme/app:1.2", "example.com/acme/app:latest")
    image_id = make_image(docker_client, *names, layers=(2_500_000, 1_000, 0), note="saved")
    image = docker_client.images.get(image_id)
    with file.open("wb") as stream:
        stream.writelines(docker_client.api.get_image("example.com/acme/app"))
    source = await opened(folder)
    assert await source.tags() == ["1.2", "latest"]
    for tag in ("1.2", "latest"):
        assert await check(source, tag) == image.attrs["RootFS"]["Layers"]
    manifest = await source.manifest("1.2")
    assert manifest.config.digest == image_id
    assert manifest.media_type == OCI_MANIFEST
    assert (await source.head(manifest.digest)).digest == manifest.digest
    assert (await source.referrers(manifest.digest)).manifests == ()


@pytest.mark.engine
async def test_a_layer_that_occurs_twice_is_found_in_what_a_real_engine_saved(
    docker_client: docker.DockerClient, folder: LayoutFolder, file: Path
) -> None:
    # Docker up to 25 writes a link for it, Docker 26 does not.
    same, other = tar({"a": b"1"}), tar({"a": b"2"})
    layers = [same, other, same]
    docker_client.images.load(old({f"{n}/layer.tar": data for n, data in enumerate(layers)}))
    with file.open("wb") as stream:
        stream.writelines(docker_client.api.get_image("a/app:1"))
    assert await check(await opened(folder), "1") == list(map(digests.digest_of, layers))


@pytest.mark.engine
async def test_the_newer_form_is_read_with_the_manifests_it_has(
    docker_client: docker.DockerClient, folder: LayoutFolder, file: Path, tmp_path: Path
) -> None:
    make_image(docker_client, "acme/new:1", layers=(700_000,), note="new")
    saved = tmp_path / "saved.tar"
    with saved.open("wb") as stream:
        stream.writelines(docker_client.api.get_image("acme/new:1"))
    words = ["copy", f"docker-archive:{saved}", f"oci-archive:{file}:v1"]
    subprocess.run([program("skopeo"), "--insecure-policy", *words], check=True)
    raw = subprocess.check_output([program("skopeo"), "inspect", "--raw", words[2]])
    source = await opened(folder)
    assert await source.tags() == ["v1"]
    assert (await source.manifest("v1")).raw == raw
    await check(source, "v1")


async def test_an_index_beside_a_manifest_json_counts(folder: LayoutFolder, file: Path) -> None:
    manifest = make_manifest()
    entry = {
        **manifest.descriptor.as_json(),
        "annotations": {
            "io.containerd.image.name": "docker.io/acme/app:3",
            "org.opencontainers.image.ref.name": "3",
        },
    }
    layout = {
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        "index.json": json.dumps({"mediaType": OCI_INDEX, "manifests": [entry]}).encode(),
        "manifest.json": b'[{"Config": "blobs/sha256/x", "Layers": [], "RepoTags": ["a/b:3"]}]',
        f"blobs/{manifest.digest.replace(':', '/')}": manifest.raw,
        f"blobs/sha256/{hashlib.sha256(b'{}').hexdigest()}": b"{}",
    }
    file.write_bytes(tar(layout))
    assert await (await opened(folder)).tags() == ["3"]
    assert await check(await opened(folder), "3") == []


async def test_what_is_made_of_an_archive_is_always_the_same(
    folder: LayoutFolder, file: Path
) -> None:
    data = archive(["a/app:1"], [b"1", b"2"], note="n")
    found = set()
    for _ in range(2):
        file.write_bytes(data)
        found.add((await (await opened(folder)).manifest("1")).raw)
        file.unlink()
    assert len(found) == 1


async def test_layers_that_were_compressed_say_so(folder: LayoutFolder, file: Path) -> None:
    packed = gzip.compress(tar({"a": os.urandom(5_000)}), mtime=0)
    file.write_bytes(old({"1.tar.gz": packed, "2.tar": tar({"b": b"2"})}))
    await check(await opened(folder), "1")
    kinds = [layer.media_type for layer in (await (await opened(folder)).manifest("1")).layers]
    assert [kind.rpartition(".")[2] for kind in kinds] == ["tar+gzip", "tar"]


async def test_a_link_to_another_layer_is_followed(folder: LayoutFolder, file: Path) -> None:
    same = tar({"a": b"1"})
    layers = {"one/layer.tar": same, "two/layer.tar": same}
    file.write_bytes(old(layers, ("two/layer.tar", "../one/layer.tar")))
    assert len(await check(await opened(folder), "1")) == 2


async def test_images_that_share_a_tag_must_be_named_by_digest(
    folder: LayoutFolder, file: Path
) -> None:
    first, second = tar({"a": b"1"}), tar({"a": b"2"})
    configs = [
        json.dumps({"rootfs": {"diff_ids": [digests.digest_of(one)]}}).encode()
        for one in (first, second)
    ]
    listed = [
        {"Config": "c1", "RepoTags": ["a/x:1", "a/x:2"], "Layers": ["l1"]},
        {"Config": "c2", "RepoTags": ["b/y:1"], "Layers": ["l2"]},
    ]
    members = {"l1": first, "l2": second, "c1": configs[0], "c2": configs[1]}
    file.write_bytes(tar({**members, "manifest.json": json.dumps(listed).encode()}))
    source = await opened(folder)
    assert await source.tags() == ["1", "2"]
    digest = (await source.manifest("2")).digest
    with pytest.raises(ImageNotFound) as caught:
        await source.manifest("1")
    assert (
        f"some/app.tar:1 may be any of 2 images: a/x:1 ({digest}), b/y:1 (" in caught.value.message
    )
    assert await check(source, digest) == [digests.digest_of(first)]


async def test_the_only_image_of_an_archive_is_found_under_any_tag_if_it_has_none(
    folder: LayoutFolder, file: Path
) -> None:
    file.write_bytes(old({"l": tar({"a": b"1"})}, names=None))
    source = await opened(folder)
    assert await source.tags() == []
    for tag in ("1", "latest"):
        await check(source, tag)
    digest = (await source.manifest("1")).digest
    assert await source.cosign_tags(digest) == {}
    assert (await source.referrers(digest)).manifests == ()


async def test_one_of_several_images_without_a_name_is_found_by_its_digest(
    folder: LayoutFolder, file: Path
) -> None:
    layers = [tar({"a": b"1"}), tar({"a": b"2"})]
    configs = [
        json.dumps({"rootfs": {"diff_ids": [digests.digest_of(one)]}}).encode() for one in layers
    ]
    listed = [{"Config": f"c{n}", "Layers": [f"l{n}"]} for n in range(2)]
    members = {f"l{n}": layers[n] for n in range(2)} | {f"c{n}": configs[n] for n in range(2)}
    file.write_bytes(tar({**members, "manifest.json": json.dumps(listed).encode()}))
    with pytest.raises(
        ImageNotFound, match=r"there is no .*/app.tar:1; there is sha256:"
    ) as caught:
        await (await opened(folder)).manifest("1")
    await check(await opened(folder), caught.value.message.rpartition(" ")[2])


@pytest.mark.parametrize("name", ["app.tar", "app.tar.gz", "app.tgz"])
async def test_an_archive_that_is_compressed_with_gzip_is_read(
    folder: LayoutFolder, tmp_path: Path, name: str
) -> None:
    data = old({"1.tar": tar({"a": os.urandom(400_000)}), "2.tar": tar({"b": b"2"})})
    plain_file, packed = tmp_path / "some/plain.tar", tmp_path / "some" / name
    plain_file.write_bytes(data)
    packed.write_bytes(gzip.compress(data))
    source = await folder.source(f"some/{name}")
    assert await source.tags() == ["1"]
    expected = await check(await folder.source("some/plain.tar"), "1")
    assert await check(source, "1") == expected
    listed = [name async for page in folder.repositories() for name in page]
    assert listed == sorted(["some/plain.tar", f"some/{name}"])


async def test_an_archive_that_changed_is_read_again(folder: LayoutFolder, file: Path) -> None:
    for tag in ("1", "2"):
        file.write_bytes(old({"l": tar({"a": b"1"})}, names=[f"a/app:{tag}"]))
        os.utime(file, (1_000_000_000 + int(tag), 1_000_000_000))
        assert await (await opened(folder)).tags() == [tag]


async def test_a_layer_that_is_not_what_the_config_says_is_seen_by_its_reader(
    folder: LayoutFolder, file: Path
) -> None:
    file.write_bytes(old({"l": b"x" * 1_000}).replace(b"x" * 1_000, b"y" * 1_000))
    with pytest.raises(AssertionError):
        await check(await opened(folder), "1")


@pytest.mark.parametrize(
    ("data", "kind", "said"),
    [
        (
            gzip.compress(gzip.compress(old({}))),
            ManifestUnsupported,
            "app.tar is compressed, so that nothing",
        ),
        (
            b"\x28\xb5\x2f\xfd" + b"x" * 1_000,
            ManifestUnsupported,
            "unpack it once with zstd -d",
        ),
        (gzip.compress(old({}))[:-200], AnswerMalformed, "app.tar is cut off: its gzip data"),
        (b"\x1f\x8b" + b"x" * 1_000, AnswerMalformed, "app.tar is damaged: its gzip data"),
        (tar({"a": b"1"}), ManifestUnsupported, "is no archive of docker save: it has neither"),
        (b"#!/bin/sh\n" * 100, AnswerMalformed, "images.layout/some/app.tar is no tar archive"),
        (tar({"manifest.json": b"{}"}), AnswerMalformed, "its manifest.json is not a list of im"),
        (tar({"manifest.json": b"[1"}), AnswerMalformed, "its manifest.json is not JSON"),
        (tar({"manifest.json": b"[{}]"}), AnswerMalformed, "an image without Config, Layers or"),
        (
            tar({"manifest.json": b'[{"Config": "c", "Layers": {}}]'}),
            AnswerMalformed,
            "Layers is not a list",
        ),
        (
            tar({"manifest.json": b'[{"Config": "../c"}]'}),
            AnswerMalformed,
            "has no member '../c', which it names",
        ),
        (
            tar({"manifest.json": b'[{"Config": "c"}]', "c": b"[]"}),
            AnswerMalformed,
            "'c' names no layers (rootfs.diff_ids)",
        ),
        (
            tar({"manifest.json": b'[{"Config": "c"}]', "c": b"{" * 9_999}),
            AnswerMalformed,
            "'c' is not JSON",
        ),
        (
            tar({"manifest.json": b'[{"Config": "c"}]', "c": b'{"rootfs": {"diff_ids": ["x"]}}'}),
            AnswerMalformed,
            "'c' names a layer by no digest that can be verified",
        ),
        (
            tar({"manifest.json": b'[{"Config": "c", "Layers": ["c"]}]', "c": NO_LAYERS}),
            AnswerMalformed,
            "an image has 1 layers and its config 0",
        ),
        (
            tar({"manifest.json": b" " * (MANIFEST_LIMIT + 1)}),
            AnswerMalformed,
            "its manifest.json has 4194305 bytes; at most 4194304 are read",
        ),
        (
            old({"l": b""}, ("x", "/etc/passwd")),
            NotAllowed,
            "the link 'x' leads out of the archive",
        ),
        (old({"l": b""}, ("x", "../x")), NotAllowed, "'x' lies or leads out of the archive"),
    ],
)
async def test_what_is_wrong_with_an_archive_is_told_in_one_line(
    folder: LayoutFolder, file: Path, data: bytes, kind: type[Exception], said: str
) -> None:
    file.write_bytes(data)
    with pytest.raises(kind) as caught:
        await (await opened(folder)).manifest("1")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_link_is_no_archive(folder: LayoutFolder, file: Path, tmp_path: Path) -> None:
    (tmp_path / "real.tar").write_bytes(old({"l": b""}))
    file.symlink_to(tmp_path / "real.tar")
    with pytest.raises(NotAllowed, match=r"images\.layout/some/app\.tar is a symbolic link"):
        await (await opened(folder)).tags()


async def test_archives_are_only_read(folder: LayoutFolder, file: Path) -> None:
    data = old({"l": b""})
    file.write_bytes(data)
    for name in ("some/app.tar", "some/app.tar/below"):
        with pytest.raises(PushRejected, match="archives are only read"):
            await folder.target(name).put("1", make_manifest())
    assert file.read_bytes() == data


async def test_what_an_archive_does_not_hold_is_told(folder: LayoutFolder, file: Path) -> None:
    file.write_bytes(old({"l": b""}))
    source = await opened(folder)
    assert await source.head("2") is None
    assert await source.head(digests.digest_of(b"none")) is None

    with pytest.raises(BlobMissing, match="does not hold sha256:"):
        async with source.blob(digests.digest_of(b"none")):
            pass
    file.unlink()
    with pytest.raises(RepositoryMissing, match=r"there is no archive images\.layout/some/app"):
        await source.tags()
