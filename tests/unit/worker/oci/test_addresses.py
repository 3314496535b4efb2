"""Every address has one class, in whatever form it is written."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transship_worker.oci import addresses
from transship_worker.oci.addresses import Kind, kind_of

#: Addresses at the ends of each block, and beside them.
CLASSES = {
    Kind.METADATA: [
        *("169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192"),
        *("169.254.170.2", "169.254.170.23", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254"),
        *("fd00:0ec2:0:0:0:0:0:0254", "fd00:ec2::254%eth0", "[fd00:ec2::254]"),
        *("::ffff:169.254.169.254", "::ffff:a9fe:a9fe", "::169.254.169.254"),
        *("::ffff:0:169.254.169.254", "64:ff9b::169.254.169.254", "64:ff9b::6464:64c8"),
        *("64:ff9b:1::169.254.169.254", "64:ff9b:1:ffff:ffff:ffff:a83f:8110"),
        *("2002:a9fe:a9fe::1", "2002:c000:c0::", "2001:0:808:808:0:0:5601:5601"),
        # In the network's own NAT64, after prefixes of 48, 56 and 64 bits.
        *("64:ff9b:1:a9fe:a9:fe00::", "64:ff9b:1:a9:fe:a9fe::", "64:ff9b:1::a9:fea9:fe00:0"),
    ],
    Kind.LOOPBACK: [
        *("127.0.0.1", "127.0.0.0", "127.255.255.255", "::1", "0:0:0:0:0:0:0:1", "[::1]"),
        *("localhost", "LOCALHOST.", "a.b.localhost", "::ffff:127.0.0.1", "::127.0.0.1"),
        *("64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:7f00:1::ffff:ffff"),
    ],
    Kind.UNSPECIFIED: ["0.0.0.0", "::", "0::0", "::ffff:0.0.0.0", "64:ff9b::", "2002::"],
    Kind.LINK_LOCAL: [
        *("169.254.0.0", "169.254.169.253", "169.254.255.255", "fe80::", "fe80::1%eth0"),
        *("febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::ffff:169.254.1.1", "2002:a9fe:1::"),
    ],
    Kind.PRIVATE: [
        *("10.0.0.0", "10.255.255.255", "172.16.0.0", "172.31.255.255", "192.168.0.0"),
        *("192.168.255.255", "100.64.0.0", "100.127.255.255", "100.100.100.199", "fc00::"),
        *("fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fec0::1", "::ffff:10.1.2.3", "::10.1.2.3"),
        *("64:ff9b::10.1.2.3", "64:ff9b:1::10.1.2.3", "64:ff9b:1:a01:2:300::", "2002:a01:203::1"),
    ],
    Kind.GLOBAL: [
        *("1.0.0.0", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0"),
        *("126.255.255.255", "128.0.0.0", "169.253.255.255", "169.255.0.0", "172.15.255.255"),
        *("172.32.0.0", "192.0.1.0", "192.167.255.255", "192.169.0.0", "198.17.255.255"),
        *("198.20.0.0", "223.255.255.255", "168.63.129.15", "2001:4860:4860::8888", "2600::1"),
        *("::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "64:ff9b:1::8.8.8.8", "2002:808:808::"),
    ],
    Kind.RESERVED: [
        *("0.0.0.1", "0.255.255.255", "192.0.0.1", "192.0.2.1", "192.88.99.1", "198.18.0.0"),
        *("198.19.255.255", "198.51.100.1", "203.0.113.1", "240.0.0.0", "255.255.255.254"),
        *("100::1", "2001:db8::1", "3fff::1", "4000::", "5f00::1", "fe00::", "64:ff9a::1"),
        *("64:ff9b:2::1", "2001:2::1", "::ffff:240.0.0.1"),
    ],
    Kind.MULTICAST: ["224.0.0.1", "239.255.255.255", "ff02::1", "::ffff:224.0.0.1"],
    Kind.BROADCAST: ["255.255.255.255", "::ffff:255.255.255.255"],
}
ALL = [(text, kind) for kind, texts in CLASSES.items() for text in texts]


@pytest.mark.parametrize(("text", "kind"), ALL)
def test_each_address_has_its_class_in_every_form(text: str, kind: Kind) -> None:
    assert kind_of(text) is kind


@pytest.mark.parametrize(
    "text", ["registry.example.com", "localhost.example.com", "127.1", "0x7f.1"]
)
def test_a_name_has_no_class(text: str) -> None:
    assert kind_of(text) is None


@given(st.ip_addresses())
def test_every_address_has_exactly_one_class(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    kind = kind_of(str(address))
    assert kind in list(Kind)
    assert kind is not None
    assert kind.label.split()[0] in {"a", "an"}


@given(st.ip_addresses(v=4))
def test_an_address_inside_another_counts_as_itself(address: ipaddress.IPv4Address) -> None:
    expected, number = kind_of(str(address)), int(address)
    for prefix in ("::ffff:0:0", "::ffff:0:0:0", "64:ff9b::"):
        holder = ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) | number)
        assert kind_of(str(holder)) is expected, holder
    assert kind_of(str(ipaddress.IPv6Address(0x2002 << 112 | number << 80))) is expected
    assert addresses.lies_in(f"::ffff:{address}", (ipaddress.ip_network(str(address)),))
