"""The catalogue: every mistake with its line, reloading, who may write it."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from textwrap import dedent

import pytest

from transship.errors import CatalogError, UnknownComponent
from transship_config.settings import Settings
from transship_worker.catalog import Catalog
from transship_worker.catalog.file import Place
from transship_worker.flavors.default import DefaultRegistry

GOOD = """\
registries:
  prod:
    flavor: default
    uri: registry.example.com/ml/
  staging:
    flavor: default
    uri: staging.example.com
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "catalog.yaml"


def mistakes(file: Path, text: str) -> list[str]:
    """The mistakes found in a catalogue, as ``line: text``."""
    file.write_text(dedent(text))
    with pytest.raises(CatalogError) as caught:
        Catalog.open(file)
    lines = caught.value.message.splitlines()
    assert all(line.startswith(f"{file}:") for line in lines), lines
    return [line.removeprefix(f"{file}:") for line in lines]


def test_components_are_read_with_their_flavor_and_a_uri_without_trailing_slashes(
    file: Path,
) -> None:
    file.write_text(GOOD)
    catalog = Catalog.open(file)
    assert catalog.names == ["prod", "staging"]
    assert isinstance(catalog.registry("prod"), DefaultRegistry)
    assert [c.model_dump() for c in catalog.public()] == [
        {"name": "prod", "flavor": "default", "uri": "registry.example.com/ml"},
        {"name": "staging", "flavor": "default", "uri": "staging.example.com"},
    ]
    assert catalog.error is None


def test_an_unknown_component_names_the_nearest_and_all(file: Path) -> None:
    file.write_text(GOOD)
    with pytest.raises(UnknownComponent) as caught:
        Catalog.open(file).registry("prd")
    assert caught.value.message == "no component 'prd'; did you mean 'prod'? known: prod, staging"


def test_every_mistake_is_reported_with_its_line(file: Path) -> None:
    found = mistakes(
        file,
        """\
        registries:
          prod:
            flavor: default
            uri: http://registry.example.com/ml
            pasword: {env: X}
          hub:
            flavor: dockerhb
            insecure: 7
          hub2:
            flavor: dockerhub
            uri: quay.io/acme
          "bad name": {flavor: default, uri: registry.example.com}
          empty:
          9: {flavor: default, uri: registry.example.com}
        flavors: nope.Nope
        registers: {}
        """,
    )
    assert found == [
        (
            "4: prod: uri 'http://registry.example.com/ml' must be written without a scheme: "
            "'registry.example.com/ml'; for example uri: registry.example.com/ml"
        ),
        (
            "5: prod: unknown option 'pasword'; did you mean 'password'? known: allow, "
            "allowed_networks, auth_realms, ca, client_cert, client_key, credentials, endpoint, "
            "flavor, insecure, limits, max_body, password, uri, username"
        ),
        "6: hub: uri is missing; for example uri: registry.example.com/ml",
        (
            "7: hub: no flavor 'dockerhb'; did you mean 'dockerhub'? known: aws, azure, default, "
            "dockerhub, gcp, layout"
        ),
        "8: hub: insecure should be a valid boolean, unable to interpret input",
        (
            "11: hub2: uri 'quay.io/acme' is not on Docker Hub; write uri: docker.io/acme, or "
            "flavor: default for another registry"
        ),
        (
            "12: bad name: a component's name is up to 63 letters, digits, '_', '.' and '-'; "
            "'bad name' is not"
        ),
        (
            "13: empty: must be a mapping with flavor: and uri:, for example {flavor: default, "
            "uri: ...}"
        ),
        (
            "14: 9: a component's name is up to 63 letters, digits, '_', '.' and '-'; 9 is not "
            "(put it in quotes)"
        ),
        "15: flavors must be a list of source paths of classes",
        (
            "16: unknown key 'registers'; did you mean 'registries'? known: registries, flavors, "
            "flavor_paths, anonymous_sources, accounts, groups"
        ),
    ]


def test_every_duplicate_is_reported(file: Path) -> None:
    found = mistakes(
        file,
        """\
        registries:
          prod: {flavor: default, uri: a.example.com}
          prod: {flavor: default, uri: b.example.com}
          other:
            flavor: default
            uri: c.example.com
            uri: d.example.com
        """,
    )
    assert found == [
        "3: 'prod' is there twice, first in line 2; keep one",
        "7: 'uri' is there twice, first in line 6; keep one",
    ]


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("registries:\n  a: {flavor: default", "2: not valid YAML: expected ',' or '}', but got"),
        ("registries:\n\ta: b", "2: not valid YAML: found character '\\t' that cannot start"),
        ("registries:\n  a: b: c", "2: not valid YAML: mapping values are not allowed here"),
        ("a: *hunter22", "1: not valid YAML: a value that starts with '*' must be put in quotes"),
        ("a: !hunter22 x", "1: not valid YAML: a value that starts with '!' must be put in quotes"),
        ("- a", "1: the catalogue must be a mapping with registries:"),
        ("a: \x01", "1: not valid YAML: ReaderError"),
        ("registries: [a]", "1: registries must be a mapping of names to components"),
    ],
)
def test_what_is_no_yaml_is_told_with_its_line_and_without_its_text(
    file: Path, text: str, right: str
) -> None:
    found = mistakes(file, text)
    assert len(found) == 1
    assert found[0].startswith(right)
    assert "hunter22" not in found[0]


@pytest.mark.parametrize(
    ("options", "right"),
    [
        ("username: u", "username needs a password, for example password: {env: PASSWORD}"),
        ("password: hunter22", "password needs a username"),
        ("username: u\n    password: 12345678", ("password must be a text, {env: NAME} or "
         "{file: PATH}; put a number in quotes")),
        ("username: u\n    password: {environment: hunter22}", ("password must be a text, "
         "{env: NAME} or {file: PATH}")),
        ("username: u\n    password: {env: $hunter22}", ("password must name a variable without "
         "'$' or braces: {env: REGISTRY_PASSWORD}")),
        ("username: u\n    password: p\n    credentials: docker-config",
         "choose one: credentials: docker-config, or username and password"),
        ("credentials: keychain", "credentials should be 'docker-config'"),
        ("insecure: true\n    ca: x.pem", ("choose one: insecure: true does without the "
         "certificate that ca names")),
        ("name: other", "a component's name is its key; leave name: out"),
    ],
)  # fmt: skip
def test_options_that_contradict_are_told_and_no_value_is_shown(
    file: Path, options: str, right: str
) -> None:
    found = mistakes(
        file, f"registries:\n  a:\n    flavor: default\n    uri: r.example.com\n    {options}\n"
    )
    assert [line.partition(": a: ")[2] for line in found] == [right]
    assert "hunter22" not in str(found)
    assert "12345678" not in str(found)


def test_a_login_in_the_uri_is_refused_and_not_shown(file: Path) -> None:
    for uri in ("https://u:hunter22@r.example.com", "u:hunter22@r.example.com/ml"):
        found = mistakes(file, f"registries:\n  a: {{flavor: default, uri: '{uri}'}}\n")
        assert "uri must not hold a login" in found[0]
        assert "hunter22" not in found[0]


def test_an_absent_file_is_an_empty_catalogue_that_counts_once_it_is_created(file: Path) -> None:
    catalog = Catalog.open(file)
    assert catalog.names == []
    assert catalog.error is not None
    assert f"there is no catalogue at {file}" in catalog.error
    assert "transship registry register" in catalog.error
    file.write_text(GOOD)
    assert catalog.names == ["prod", "staging"]
    assert catalog.error is None


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "registries:\n", "registries: {}\n"])
def test_an_empty_file_is_an_empty_catalogue(file: Path, text: str) -> None:
    file.write_text(text)
    catalog = Catalog.open(file)
    assert (catalog.names, catalog.error) == ([], None)


def test_a_changed_file_counts_and_a_broken_one_leaves_the_last_good_version(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file.write_text(GOOD)
    catalog = Catalog.open(file)
    file.write_text(GOOD.replace("staging:", "canary:"))
    assert catalog.names == ["canary", "prod"]
    with caplog.at_level(logging.WARNING):
        file.write_text(GOOD.replace("flavor: default", "flavour: default"))
        assert catalog.names == ["canary", "prod"]
        assert catalog.registry("canary").uri == "staging.example.com"
        assert catalog.error is not None
        assert f"{file}:3: prod: unknown option" not in catalog.error
        assert f"{file}:2: prod: flavor is missing" in catalog.error
    assert len(caplog.records) == len(catalog.error.splitlines())
    assert "the last good version stays in use" in caplog.text
    file.write_text(GOOD)
    assert catalog.names == ["prod", "staging"]
    assert catalog.error is None


def test_a_file_that_vanishes_leaves_the_last_good_version(file: Path) -> None:
    file.write_text(GOOD)
    catalog = Catalog.open(file)
    file.unlink()
    assert catalog.names == ["prod", "staging"]
    assert catalog.error is not None


def test_a_file_replaced_by_one_of_the_same_size_and_time_is_read_again(file: Path) -> None:
    file.write_text(GOOD)
    catalog = Catalog.open(file)
    assert catalog.names == ["prod", "staging"]
    before = file.stat()
    other = file.with_name("other")
    other.write_text(GOOD.replace("prod:", "live:"))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(file)
    assert catalog.names == ["live", "staging"]


def test_an_unchanged_file_is_not_read_again(file: Path) -> None:
    file.write_text(GOOD)
    catalog = Catalog.open(file)
    assert catalog.current() is catalog.current()


def test_many_threads_see_whole_versions_while_the_file_changes(file: Path) -> None:
    file.write_text(GOOD)
    catalog = Catalog.open(file)
    seen: set[tuple[str, ...]] = set()
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            seen.add(tuple(catalog.names))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(20):
        new = file.with_name(f"new{number}")
        new.write_text(GOOD if number % 2 else GOOD.replace("prod:", "live:"))
        new.replace(file)
        catalog.current()
    stop.set()
    for thread in threads:
        thread.join()
    assert seen <= {("prod", "staging"), ("live", "staging")}
    assert catalog.error is None


def test_the_explicit_path_comes_before_the_setting_and_that_before_the_users_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Place.find(tmp_path / "a.yaml") == Place(tmp_path / "a.yaml")
    settings = Settings(catalog=str(tmp_path / "b.yaml"))
    assert Catalog.open(settings).path == tmp_path / "b.yaml"
    default = Place.find(Settings().catalog)
    assert default.by_default
    assert default.path.parts[-2:] == ("transship", "catalog.yaml")
    assert tmp_path in default.path.parents


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_catalogue_found_by_default_must_not_be_writable_by_others(
    tmp_path: Path, what: str
) -> None:
    folder = tmp_path / "transship"
    folder.mkdir(mode=0o700)
    file = folder / "catalog.yaml"
    file.write_text(GOOD)
    file.chmod(0o600)
    assert Place(file, by_default=True).read() == GOOD
    loose = file if what == "file" else folder
    loose.chmod(0o770)
    with pytest.raises(CatalogError, match=f"run: chmod go-w {loose}"):
        Place(file, by_default=True).read()
    assert Place(file).read() == GOOD, "a catalogue that somebody named is their own affair"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_catalogue_found_by_default_must_belong_to_the_user(tmp_path: Path) -> None:
    file = tmp_path / "catalog.yaml"
    file.write_text(GOOD)
    file.chmod(0o600)
    os.chown(file, 12345, 12345)
    with pytest.raises(CatalogError, match="belongs to another user"):
        Place(file, by_default=True).read()


def test_paths_in_the_catalogue_are_relative_to_it(file: Path) -> None:
    (file.parent / "secret").write_text("s3cr3t\n")
    file.write_text(
        "registries:\n  a: {flavor: default, uri: r.example.com, ca: ca.pem, username: u, "
        "password: {file: secret}}\n"
    )
    registry = Catalog.open(file).registry("a")
    assert registry.access.ca == file.parent / "ca.pem"
    credentials = registry.credentials()
    assert credentials is not None
    assert credentials.password.get_secret_value() == "s3cr3t"


def test_no_secret_of_the_catalogue_is_shown_by_a_component(file: Path) -> None:
    file.write_text(
        "registries:\n  a: {flavor: default, uri: r.example.com, username: u, password: hunter22}\n"
    )
    registry = Catalog.open(file).registry("a")
    shown = f"{registry!r} {registry} {registry.model_dump()} {registry.model_dump_json()}"
    assert "hunter22" not in shown
    assert "hunter22" not in repr(registry.credentials())


def test_hosts_that_may_be_read_by_anybody_are_spelled_as_in_images(file: Path) -> None:
    file.write_text(
        "anonymous_sources: [index.docker.io, Quay.IO, 'localhost:5000', registry.example.com/]\n"
    )
    found = Catalog.open(file).current().anonymous_sources
    assert found == {"docker.io", "quay.io", "localhost:5000", "registry.example.com"}
    file.write_text("registries: {}\n")
    assert Catalog.open(file).current().anonymous_sources == frozenset()


def test_what_is_no_host_is_told_with_its_line_and_what_would_be_right(file: Path) -> None:
    found = mistakes(
        file,
        """\
        anonymous_sources:
          - quay.io
          - docker.io/library
          - https://quay.io
          - hub
          - 7
          - quay.io:70000
        """,
    )
    assert found == [
        "3: anonymous_sources: 'docker.io/library' is more than a host; write docker.io",
        "4: anonymous_sources: 'https://quay.io' must be written without a scheme: 'quay.io'",
        (
            "5: anonymous_sources: 'hub' does not start with a host; for Docker Hub write "
            "docker.io/hub"
        ),
        "6: anonymous_sources must be a list of hosts",
        "7: anonymous_sources: 'quay.io:70000' has a bad port '70000'; write 1 to 65535",
    ]
    assert mistakes(file, "anonymous_sources: quay.io\n") == [
        "1: anonymous_sources must be a list of hosts"
    ]


def test_options_for_copies_are_read_and_their_mistakes_told_with_their_lines(file: Path) -> None:
    file.write_text(
        "registries:\n"
        "  a:\n"
        "    flavor: default\n"
        "    uri: registry.example.com\n"
        "    endpoint: http://registry:5000\n"
        "    auth_realms: [auth.example.com]\n"
        "    allow: [copy_from, copy_to]\n"
        "    limits: {transfers: 4, bytes_per_second: 20MiB}\n"
    )
    made = Catalog.open(file).registry("a")
    assert made.registry_endpoint.auth_realms == {"auth.example.com"}
    assert (made.limits.transfers, made.limits.bytes_per_second) == (4, 20_971_520)
    found = mistakes(
        file,
        """\
        registries:
          a:
            flavor: default
            uri: registry.example.com
            endpoint: registry:5000
            auth_realms: auth.example.com
            allow: [pull]
            limits: {transfers: 0}
        """,
    )
    assert found == [
        "5: a: endpoint is not a base URL; write for example endpoint: http://registry:5000",
        (
            "6: a: auth_realms must be a list of hosts; write for example auth_realms: "
            "[auth.example.com]"
        ),
        "7: a: allow: unknown use 'pull'; known: push, copy_from, copy_to",
        "8: a: limits: transfers must be a positive whole number, such as 4",
    ]
