"""What the engine's settings lack for a registry, as far as it can be known."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers.certificates import Authority
from transship.model.references import RegistryUri
from transship_worker.transports.engine.settings import (
    Place,
    ca_missing,
    client_missing,
    insecure_missing,
    podman_insecure_missing,
)

HERE = socket.gethostname()


def info(*listed: str, networks: tuple[str, ...] = ("127.0.0.0/8",)) -> dict[str, Any]:
    indexes = {name: {"Name": name, "Secure": False} for name in listed}
    indexes["docker.io"] = {"Name": "docker.io", "Secure": True}
    return {
        "Name": HERE,
        "RegistryConfig": {
            "InsecureRegistryCIDRs": list(networks),
            "IndexConfigs": indexes,
        },
    }


def uri(text: str) -> RegistryUri:
    return RegistryUri.parse(text)


def test_an_insecure_registry_that_is_not_listed_is_named_with_the_setting() -> None:
    assert insecure_missing(info(), "build-7", uri("registry.invalid:5000/ml")) == (
        "engine build-7 does not list registry.invalid:5000 under insecure-registries; "
        "add it to its daemon.json and reload it"
    )


@pytest.mark.parametrize(
    ("told", "registry"),
    [
        (info("registry.invalid:5000"), "registry.invalid:5000"),
        (info(), "127.0.0.1:5000"),
        (info(), "localhost:5000"),
        (info(networks=("127.0.0.0/8", "10.0.0.0/8")), "10.1.2.3:5000"),
        # The engine may resolve the name into the network it allows.
        (info(networks=("127.0.0.0/8", "10.0.0.0/8")), "registry.invalid:5000"),
        # An engine that tells nothing of its registries.
        ({}, "registry.invalid:5000"),
        ({"RegistryConfig": None}, "registry.invalid:5000"),
    ],
)
def test_what_is_allowed_or_not_certain_is_no_complaint(
    told: dict[str, Any], registry: str
) -> None:
    assert insecure_missing(told, "build-7", uri(registry)) is None


def test_another_port_and_another_network_do_not_count() -> None:
    told = info("registry.invalid:5001", networks=("10.0.0.0/8", "not a network"))
    assert insecure_missing(info("registry.invalid"), "e", uri("registry.invalid:5000"))
    assert insecure_missing(told, "e", uri("192.168.0.1:5000"))


def place(
    certificates: Path, registry: str, told: dict[str, Any] | None = None, *, local: bool = True
) -> Place:
    return Place(told or info(), "build-7", uri(registry), local, certificates)


def test_a_ca_that_the_engine_does_not_have_is_said_with_its_place(
    authority: Authority, tmp_path: Path
) -> None:
    said = ca_missing(place(tmp_path, "registry.lan"), authority.ca)
    assert said is not None
    assert f"copy {authority.ca} to {tmp_path / 'registry.lan' / 'ca.crt'}" in said


def test_a_ca_in_the_engines_folder_is_enough(authority: Authority, tmp_path: Path) -> None:
    folder = tmp_path / "registry.lan:5000"
    folder.mkdir()
    (folder / "any-name.crt").write_bytes(b"# a comment\n" + authority.ca.read_bytes())
    assert ca_missing(place(tmp_path, "registry.lan:5000/ml"), authority.ca) is None


def test_a_client_certificate_counts_with_its_key_beside_it(
    authority: Authority, tmp_path: Path
) -> None:
    certificate, key = authority.issue("client")
    other, _ = authority.issue("other")
    folder = tmp_path / "registry.lan"
    folder.mkdir()
    there = place(tmp_path, "registry.lan")

    said = client_missing(there, certificate, key)
    assert said is not None
    assert f"copy {certificate} to {folder / 'client.cert'}" in said
    assert f"{key} to {folder / 'client.key'}" in said
    (folder / "any-name.cert").write_bytes(certificate.read_bytes())
    assert client_missing(there, certificate, key) == said
    (folder / "any-name.key").touch()
    assert client_missing(there, certificate, key) is None
    assert client_missing(there, other, key) is not None
    assert client_missing(there, tmp_path / "none.pem", key) == (
        f"the component's client_cert {tmp_path / 'none.pem'} cannot be read or holds no "
        "certificate"
    )


def test_an_engine_that_may_be_elsewhere_is_not_judged(
    authority: Authority, tmp_path: Path
) -> None:
    elsewhere = {**info(), "Name": "another-machine"}
    certificate, key = authority.issue("client")
    for told, local in ((info(), False), (elsewhere, True)):
        there = place(tmp_path, "registry.lan", told, local=local)
        assert ca_missing(there, authority.ca) is None
        assert client_missing(there, certificate, key) is None


@pytest.mark.parametrize("content", [None, "no certificate in here"])
def test_a_ca_file_that_cannot_be_used_is_named(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    said = ca_missing(place(tmp_path, "registry.lan", local=False), file)
    assert said == f"the component's CA {file} cannot be read or holds no certificate"


# Podman.


@pytest.mark.parametrize("listed", ["registry.lan:5000", "registry.lan:5000/team", "*.lan:5000"])
def test_podman_trusts_what_its_settings_may_mean(listed: str) -> None:
    assert podman_insecure_missing(info(listed), "pod", uri("registry.lan:5000/team")) is None
    assert podman_insecure_missing({}, "pod", uri("registry.lan:5000")) is None


@pytest.mark.parametrize("registry", ["registry.lan:5001", "127.0.0.1:5000", "lan:5000"])
def test_podman_is_told_what_it_does_not_list_loopback_included(registry: str) -> None:
    told = info("registry.lan:5000", "*.lan:5000")
    assert podman_insecure_missing(told, "pod", uri(registry)) == (
        f"engine pod does not list {registry} as insecure; set insecure = true for it in "
        "Podman's registries.conf"
    )
