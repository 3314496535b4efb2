"""Where a registry may be, and where it may lead: by the classes of addresses."""

from __future__ import annotations

import ipaddress

import pytest

from transship_worker.oci import addresses
from transship_worker.oci.addresses import Kind
from transship_worker.oci.errors import ForbiddenAddress
from transship_worker.oci.guard import Home, Rule

#: One address of each class.
SAMPLES = {
    Kind.METADATA: "169.254.169.254",
    Kind.LOOPBACK: "127.0.0.1",
    Kind.UNSPECIFIED: "0.0.0.0",
    Kind.LINK_LOCAL: "169.254.1.1",
    Kind.OWN: "10.99.99.99",
    Kind.PRIVATE: "10.0.0.1",
    Kind.GLOBAL: "8.8.8.8",
    Kind.RESERVED: "240.0.0.1",
    Kind.MULTICAST: "224.0.0.1",
    Kind.BROADCAST: "255.255.255.255",
}
NEVER = Kind.METADATA | Kind.MULTICAST | Kind.BROADCAST


@pytest.fixture(autouse=True)
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stub says which address is this machine's own."""
    monkeypatch.setattr(addresses, "_is_own", lambda one: str(one) == SAMPLES[Kind.OWN])


def allowed(rule: Rule) -> Kind:
    """The classes whose addresses the rule lets through."""
    found = Kind(0)
    for kind, text in SAMPLES.items():
        assert addresses.kind_of(text) is kind
        try:
            assert rule.check(text) is kind
        except ForbiddenAddress:
            continue
        found |= kind
    return found


@pytest.mark.parametrize(
    ("seen", "leads"),
    [
        (Kind(0), Kind.GLOBAL),
        (Kind.GLOBAL, Kind.GLOBAL),
        (Kind.PRIVATE, Kind.PRIVATE | Kind.GLOBAL),
        (Kind.RESERVED, Kind.RESERVED | Kind.GLOBAL),
        (Kind.LINK_LOCAL, Kind.LINK_LOCAL | Kind.PRIVATE | Kind.GLOBAL),
        (Kind.OWN, Kind.OWN | Kind.PRIVATE | Kind.GLOBAL),
        (
            Kind.LOOPBACK,
            Kind.LOOPBACK | Kind.UNSPECIFIED | Kind.OWN | Kind.PRIVATE | Kind.GLOBAL,
        ),
        (Kind.LOOPBACK | Kind.OWN, Kind.LOOPBACK | Kind.OWN | Kind.PRIVATE | Kind.GLOBAL),
        # Of several, the address that is farthest away says what it may.
        (Kind.LOOPBACK | Kind.PRIVATE, Kind.PRIVATE | Kind.GLOBAL),
        (Kind.PRIVATE | Kind.GLOBAL, Kind.GLOBAL),
        (Kind.LOOPBACK | Kind.LINK_LOCAL, Kind.LINK_LOCAL | Kind.PRIVATE | Kind.GLOBAL),
    ],
)
def test_where_a_registry_may_lead_is_said_by_where_it_is(seen: Kind, leads: Kind) -> None:
    assert allowed(Rule("registry.example.com", Home(seen))) == leads


def test_a_registry_may_be_anywhere_at_first_but_at_no_metadata_service() -> None:
    assert allowed(Rule("registry.example.com", Home(), named=True)) == ~NEVER


def test_a_name_that_led_elsewhere_before_does_not_lead_here_later() -> None:
    rule = Rule("registry.example.com", Home(), named=True)
    rule.arrived(rule.check("8.8.8.8"))
    assert allowed(rule) == Kind.GLOBAL
    with pytest.raises(ForbiddenAddress, match=r"10\.0\.0\.1 is a private.*, and the name led"):
        rule.check("10.0.0.1")


def test_a_certificate_shows_that_a_registry_moved_within_the_network() -> None:
    rule = Rule("registry.example.com", Home(Kind.GLOBAL), named=True, proven=True)
    assert allowed(rule) == Kind.GLOBAL | Kind.PRIVATE | Kind.RESERVED


def test_what_a_registry_leads_to_says_nothing_of_where_it_is() -> None:
    home = Home(Kind.PRIVATE)
    led = Rule("registry.example.com", home)
    led.arrived(led.check("8.8.8.8"))
    assert home.seen is Kind.PRIVATE


def test_listed_networks_are_allowed_besides_but_no_metadata_service() -> None:
    networks = tuple(map(ipaddress.ip_network, ("10.0.0.0/16", "0.0.0.0/1", "169.254.0.0/16")))
    rule = Rule("registry.example.com", Home(Kind.GLOBAL), networks)
    expected = Kind.GLOBAL | Kind.PRIVATE | Kind.OWN | Kind.LOOPBACK
    assert allowed(rule) == expected | Kind.UNSPECIFIED | Kind.LINK_LOCAL
    assert rule.check("::ffff:10.0.0.1") is Kind.PRIVATE
    with pytest.raises(ForbiddenAddress, match="no registry is"):
        rule.check("::ffff:169.254.169.254")


def test_a_refusal_names_the_address_its_class_and_what_can_be_set() -> None:
    with pytest.raises(ForbiddenAddress) as caught:
        Rule("registry.example.com", Home(Kind.GLOBAL)).check("64:ff9b::10.1.2.3")
    assert str(caught.value) == (
        "64:ff9b::10.1.2.3 is a private address, and a registry at a global address may not lead "
        "there"
    )
    assert caught.value.advice == ("if that is right, set allowed_networks: [64:ff9b::a01:203/128]")


def test_no_setting_is_advised_for_a_metadata_service() -> None:
    with pytest.raises(ForbiddenAddress) as caught:
        Rule("registry.example.com", Home(Kind.LOOPBACK)).check("169.254.169.254")
    assert str(caught.value) == "169.254.169.254 is a metadata address, where no registry is"
    assert caught.value.advice == ""
