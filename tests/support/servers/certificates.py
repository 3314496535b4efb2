"""A certificate authority for one test session."""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

_PEM = serialization.Encoding.PEM
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class Authority:
    """Signs certificates; its own is in ``ca`` (PEM).

    As with many private CAs, none of them has the key identifiers that RFC 5280 requires and
    Python 3.13 asks for by default.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("Transship tests")
        certificate = _build(self._name, self._name, self._key, self._key, authority=True)
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(certificate.public_bytes(_PEM))

    def issue(self, *hosts: str, expired: bool = False) -> tuple[Path, Path]:
        """A certificate and its key (PEM files) for these host names or addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _build(
            _name(hosts[0]), self._name, key, self._key, hosts=hosts, expired=expired
        )
        stem = hosts[0].replace(":", "_").replace("*", "_") + ("-expired" if expired else "")
        paths = self._folder / f"{stem}.pem", self._folder / f"{stem}.key"
        paths[0].write_bytes(certificate.public_bytes(_PEM))
        paths[1].write_bytes(private_pem(key))
        return paths


def self_signed(name: str, key: rsa.RSAPrivateKey) -> x509.Certificate:
    """A certificate that only says which key it is."""
    return _build(_name(name), _name(name), key, key, authority=True)


def private_pem(key: Key) -> bytes:
    """The key as PEM, not encrypted."""
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        return x509.DNSName(host)


def _build(
    subject: x509.Name,
    issuer: x509.Name,
    key: Key,
    signer: Key,
    *,
    hosts: tuple[str, ...] = (),
    authority: bool = False,
    expired: bool = False,
) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now - dt.timedelta(minutes=1) if expired else now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if hosts:
        names = x509.SubjectAlternativeName([_alternative(host) for host in hosts])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(signer, hashes.SHA256())
