"""The ``layout`` flavor: a folder that looks like a registry, under the component's name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from transship.errors import CatalogError, NotAllowed, NotUnderRegistry
from transship.model.components import PublicComponent
from transship.model.references import ImageReference
from transship_worker.catalog.file import Document
from transship_worker.catalog.model import build
from transship_worker.credentials.access import Access, Credentials
from transship_worker.flavors.layout import LayoutRegistry
from transship_worker.flavors.options import Use


def made(**options: Any) -> LayoutRegistry:
    return LayoutRegistry.model_validate({"name": "images", "uri": "/srv/images", **options})


def mistakes(text: str) -> list[str]:
    with pytest.raises(CatalogError) as caught:
        build(Document.parse(Path("/etc/transship/catalog.yaml"), text))
    return [line.partition(": ")[2] for line in caught.value.message.splitlines()]


class Refusing:
    """A transport that must not be asked."""

    def push(
        self, image: ImageReference, *, credentials: Credentials | None, access: Access
    ) -> str:
        raise AssertionError("a folder was pushed to")


def test_producers_see_a_registry_and_not_where_the_folder_is() -> None:
    assert made().public == PublicComponent(name="images", flavor="layout", uri="images.layout")
    assert made().public.covers(ImageReference.parse("images.layout/tools/cat:1.2"))
    assert not made().public.covers(ImageReference.parse("other.layout/tools/cat:1.2"))


def test_references_are_judged_by_the_name() -> None:
    assert made().placed("images.layout/cat").tag == "latest"
    assert made(name="air-gap.site-2").placed("air-gap.site-2.layout/cat:1").repository == "cat"
    with pytest.raises(NotUnderRegistry):
        made().placed("registry.example.com/cat:1")


def test_a_relative_path_is_meant_from_the_catalogue() -> None:
    text = "registries:\n  images: {flavor: layout, uri: ../images}\n"
    found = build(Document.parse(Path("/etc/transship/catalog.yaml"), text))
    assert found.registries["images"].uri == "/etc/transship/../images"
    with pytest.raises(ValidationError, match="is a relative path; write the path of a folder"):
        made(uri="images")


@pytest.mark.parametrize("uri", ["", " ", "file:///srv/images", "/srv/\n"])
def test_what_is_no_path_is_refused(uri: str) -> None:
    with pytest.raises(ValidationError, match="write the path of a folder, for example uri: /srv"):
        made(uri=uri)


@pytest.mark.parametrize("name", ["Images", "my_images", "a..b", "a-", "a.-b"])
def test_a_name_that_cannot_be_a_host_is_refused_in_one_line(name: str) -> None:
    (line,) = mistakes(f"registries:\n  {name}: {{flavor: layout, uri: /srv/images}}\n")
    assert f"'{name}' cannot be the first part of an image's name" in line


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("username: a, password: b", "a folder has no password and no username; leave that out"),
        ("password: {env: P}", "a folder has no password; leave that out"),
        ("credentials: docker-config", "a folder has no credentials; leave that out"),
        ("insecure: true", "a folder has no insecure; leave that out"),
        ("endpoint: 'http://a:1'", "a folder has no endpoint; leave that out"),
        ("limits: {transfers: 2}", "a folder has no limits; leave that out"),
        ("allow: [push, copy_to]", "allow: push is not for a folder; write allow: [copy_from, "),
    ],
)
def test_options_of_servers_are_refused_in_one_line(options: str, said: str) -> None:
    (line,) = mistakes(f"registries:\n  images: {{flavor: layout, uri: /srv/images, {options}}}\n")
    assert said in line


def test_an_engine_cannot_push_there_and_is_not_asked() -> None:
    with pytest.raises(NotAllowed) as caught:
        made().push_image("images.layout/cat:1", transport=Refusing())
    assert caught.value.message == (
        "component 'images' is a folder, and no Docker Engine can push into one; "
        "use: transship copy SOURCE images.layout/REPOSITORY:TAG"
    )


def test_it_can_be_limited_to_one_direction() -> None:
    assert str(made().prepared("images.layout/cat:1", use=Use.COPY_TO)).endswith("cat:1")
    reading = made(allow=["copy_from"])
    reading.check_allows(Use.COPY_FROM)
    with pytest.raises(NotAllowed, match="component 'images' is not for copy_to"):
        reading.prepared("images.layout/cat:1", use=Use.COPY_TO)


def test_the_flavor_alone_loads_no_file_work_and_no_client() -> None:
    script = (
        "import sys; import transship_worker.flavors.layout;"
        "print(sorted({'transship_worker.layouts', 'aiohttp'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
