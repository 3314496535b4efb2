"""Where a registry may lead a job: not beyond the account's rights at another one."""

from __future__ import annotations

import pytest
from yarl import URL

from transship.errors import NotAllowed
from transship.model.rights import Grants, Rights, all_rights
from transship_worker.catalog.model import Components
from transship_worker.flavors.default import DefaultRegistry
from transship_worker.handlers.leading import led_rule
from transship_worker.oci.led import check_led, led_by

CATALOG = Components(
    {
        "prod": DefaultRegistry(name="prod", uri="registry.example.com/ml"),
        "hub": DefaultRegistry(name="hub", uri="docker.io"),
        "dev": DefaultRegistry(name="dev", uri="localhost:5000", insecure=True),
        "inside": DefaultRegistry(
            name="inside", uri="inside.example.com/x", endpoint="http://10.0.0.5:5000/repo/"
        ),
    }
)
B = Rights(
    "team-b", Grants.of({"copy_from": ["prod/shared/*"], "copy_to": ["prod/b/**"], "push": ["dev"]})
)
DIGEST = f"sha256:{'1' * 64}"


def led(method: str, url: str, rights: Rights = B) -> None:
    with led_by(led_rule(rights, CATALOG)):
        check_led("evil.example.com", method, URL(url, encoded=True))


ALLOWED = [
    ("GET", f"https://registry.example.com/v2/ml/shared/base/blobs/{DIGEST}"),
    ("PUT", "https://registry.example.com/v2/ml/b/app/manifests/blobs"),
    ("PATCH", "http://localhost:5000/v2/any/blobs/uploads/1"),
    # In no entry.
    ("GET", f"https://registry.example.com/v2/mlx/app/blobs/{DIGEST}"),
    ("GET", f"https://registry.example.com:8443/v2/ml/a/blobs/{DIGEST}"),
    ("GET", "https://storage.example.com/docker/registry/v2/blobs/sha256/11/data"),
]
REFUSED = [
    ("GET", f"https://registry.example.com/v2/ml/a/app/blobs/{DIGEST}"),
    ("HEAD", f"https://registry.example.com/v2/ml/b/app/blobs/{DIGEST}"),
    ("GET", f"https://REGISTRY.example.com:443/v2/ml/a/app/manifests/{DIGEST}"),
    ("GET", "https://registry.example.com/v2/ml/a/tags/list"),
    ("PUT", "https://registry.example.com/v2/ml/shared/base/manifests/1"),
    ("PATCH", "https://registry.example.com/v2/ml/a/app/blobs/uploads/1"),
    ("GET", f"https://registry.example.com//v2//ml/a/app//blobs/{DIGEST}"),
    ("GET", f"https://registry.example.com/v2/ml/shared/base/../../a/app/blobs/{DIGEST}"),
    ("GET", f"https://registry.example.com/v2/ml%2Fa/app/blobs/{DIGEST}"),
    ("GET", "https://registry.example.com/v2/_catalog"),
    ("GET", "https://registry.example.com/v2/"),
    ("GET", f"https://registry-1.docker.io/v2/a/app/blobs/{DIGEST}"),
    ("GET", f"http://10.0.0.5:5000/repo/v2/x/a/blobs/{DIGEST}"),
    ("GET", f"https://inside.example.com/v2/x/a/blobs/{DIGEST}"),
    ("GET", f"http://localhost:5000/v2/any/blobs/{DIGEST}"),
]


@pytest.mark.parametrize(("method", "url"), ALLOWED)
def test_a_registry_may_lead_where_the_account_may_go_or_where_no_entry_is(
    method: str, url: str
) -> None:
    led(method, url)
    with pytest.raises(NotAllowed):
        led("GET", "https://registry.example.com/v2/ml/a/tags/list")


@pytest.mark.parametrize(("method", "url"), REFUSED)
def test_a_registry_may_not_lead_beyond_the_rights_of_the_account(method: str, url: str) -> None:
    with pytest.raises(NotAllowed, match=r"^evil\.example\.com leads to another registry"):
        led(method, url)
    # Without the section, or outside of a job's requests, nothing is asked.
    led(method, url, all_rights("team-b"))
    check_led("evil.example.com", method, URL(url, encoded=True))


def test_the_message_says_what_the_account_may_do() -> None:
    with pytest.raises(NotAllowed) as caught:
        led("GET", f"https://registry.example.com/v2/ml/a/app/blobs/{DIGEST}")

    assert caught.value.message == (
        "evil.example.com leads to another registry of the catalog: account team-b may not copy "
        "from prod/a/app; it may copy from prod/shared/*"
    )
