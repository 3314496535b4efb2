"""Image references and registry URIs: parsing, normalisation, belonging."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transship.errors import InvalidReference
from transship.model.references import NAME_LENGTH, ImageReference, RegistryUri

DIGEST = "sha256:" + "0123456789abcdef" * 4

_alnum = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=8)
_joints = st.sampled_from([".", "_", "__", "-", "---"])
_segments = st.builds(lambda a, j, b: a + j + b, _alnum, _joints, _alnum) | _alnum
_repositories = st.lists(_segments, min_size=1, max_size=4).map("/".join)
_hosts = st.sampled_from(
    ["docker.io", "localhost", "gcr.io", "registry.example.com", "127.0.0.1", "[::1]", "a.b-c.d"]
)
_ports = st.none() | st.integers(1, 65535)
_tags = st.none() | st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
_digests = st.none() | st.just(DIGEST) | st.just("sha512:" + "f" * 128)


@st.composite
def references(draw: st.DrawFn) -> str:
    port = draw(_ports)
    name = draw(_hosts) + (f":{port}" if port else "") + "/" + draw(_repositories)
    tag, digest = draw(_tags), draw(_digests)
    return name + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")


@given(references())
def test_what_is_parsed_is_written_the_same_and_parsed_again(text: str) -> None:
    reference = ImageReference.parse(text)

    assert ImageReference.parse(str(reference)) == reference
    assert str(reference).rpartition("/")[2] == text.rpartition("/")[2]


@given(st.text(max_size=300))
def test_any_text_is_a_reference_or_one_clear_line(text: str) -> None:
    try:
        reference = ImageReference.parse(text)
    except InvalidReference as error:
        assert "\n" not in str(error)
        assert str(error).isprintable()
    else:
        assert ImageReference.parse(str(reference)) == reference


@given(references(), references())
def test_an_image_lies_under_a_uri_only_by_whole_segments(image: str, other: str) -> None:
    reference = ImageReference.parse(image)
    uri = RegistryUri.parse(ImageReference.parse(other).name)
    whole = f"{reference.name}/".startswith(f"{uri}/")

    assert reference.lies_under(uri) == whole


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("train", "docker.io/library/train"),
        ("train:42", "docker.io/library/train:42"),
        ("acme/train", "docker.io/acme/train"),
        ("docker.io/train", "docker.io/library/train"),
        ("index.docker.io/acme/train:1", "docker.io/acme/train:1"),
        ("registry-1.docker.io/acme/train", "docker.io/acme/train"),
        ("localhost/train", "localhost/train"),
        ("localhost:5000/train:1", "localhost:5000/train:1"),
        ("Registry.Example.COM/ml/train", "registry.example.com/ml/train"),
        ("[::1]:5000/a/b", "[::1]:5000/a/b"),
        (f"gcr.io/a/b:1@{DIGEST}", f"gcr.io/a/b:1@{DIGEST}"),
    ],
)
def test_names_are_normalised_as_docker_does(text: str, canonical: str) -> None:
    assert str(ImageReference.parse(text)) == canonical


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not an image reference"),
        (" a", "white space"),
        ("a\nb", "white space"),
        ("https://gcr.io/a", "without https://"),
        ("gcr.io/A/b", "write 'a'"),
        ("gcr.io/a//b", "empty path segment"),
        ("gcr.io/a/", "empty path segment"),
        ("gcr.io/", "has no repository"),
        ("gcr.io/-a", "bad path segment '-a'"),
        ("gcr.io/a:", "bad tag ''"),
        ("gcr.io/a:" + "x" * 129, "bad tag"),
        ("gcr.io/a:-x", "bad tag"),
        ("gcr.io/a@sha256:12", "bad digest"),
        ("gcr.io/a@sha256:" + "A" * 64, "bad digest"),
        ("gcr.io:99999/a", "bad port"),
        ("gcr..io/a", "bad host"),
        ("f" * 64, "image id"),
        ("gcr.io/" + "a" * NAME_LENGTH, "characters long"),
    ],
)
def test_a_bad_reference_is_refused_with_its_mistake(text: str, says: str) -> None:
    with pytest.raises(InvalidReference, match=says.replace("(", r"\(")):
        ImageReference.parse(text)


def test_the_longest_name_that_clients_accept_is_accepted() -> None:
    name = "gcr.io/" + "a" * (NAME_LENGTH - len("gcr.io/"))

    assert ImageReference.parse(name).name == name


def test_a_namesake_does_not_belong() -> None:
    assert not ImageReference.parse("gcr.io/acme-evil/x").lies_under(
        RegistryUri.parse("gcr.io/acme")
    )
    assert not ImageReference.parse("gcr.io.evil.com/x").lies_under(RegistryUri.parse("gcr.io"))
    assert not ImageReference.parse("gcr.io:5000/x").lies_under(RegistryUri.parse("gcr.io"))
    assert ImageReference.parse("gcr.io/acme/x").lies_under(RegistryUri.parse("gcr.io/acme/"))
    assert ImageReference.parse("acme/x").lies_under(RegistryUri.parse("index.docker.io/acme"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("https://gcr.io/acme", "without a scheme"),
        ("acme", "does not start with a host"),
        ("gcr.io/acme:1", "an image, not a registry"),
        ("", "not a registry URI"),
        ("gcr.io/Acme", "write 'acme'"),
    ],
)
def test_a_bad_uri_is_refused_with_its_mistake(text: str, says: str) -> None:
    with pytest.raises(InvalidReference, match=says):
        RegistryUri.parse(text)


@pytest.mark.parametrize("host", ["localhost:5000", "127.0.0.1", "127.1.2.3:80", "[::1]:5000"])
def test_loopback_is_known_by_name_and_address(host: str) -> None:
    assert RegistryUri.parse(host).is_loopback
    assert not RegistryUri.parse("127.0.0.1.example.com").is_loopback
