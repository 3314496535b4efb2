"""Options of a component that are more than a text: read from the catalogue, checked, typed."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import PlainSerializer, PlainValidator

from transship_config.text import did_you_mean
from transship_worker.fleet.limits import Limits
from transship_worker.oci.names import is_base_path

#: Sizes as people write them. Unit: bytes.
_UNITS: Final = {
    "": 1,
    "B": 1,
    "kB": 1_000,
    "KB": 1_000,
    "MB": 1_000**2,
    "GB": 1_000**3,
    "KiB": 1_024,
    "MiB": 1_024**2,
    "GiB": 1_024**3,
}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?) ?([A-Za-z]*)", re.ASCII)
_NETWORK_EXAMPLE: Final = "allowed_networks: [10.20.0.0/16]"
_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_HOST = re.compile(
    rf"(?P<host>{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]+\])(?::(?P<port>\d{{1,5}}))?", re.ASCII
)
#: Networks that one component may list.
_NETWORKS_MOST: Final = 64
_HIGHEST_PORT: Final = 65_535


class Use(StrEnum):
    """What a component may be used for."""

    #: Images of a Docker Engine go there.
    PUSH = "push"
    #: Copies read from it.
    COPY_FROM = "copy_from"
    #: Copies write to it.
    COPY_TO = "copy_to"


#: What a component is for unless it says so.
EVERY_USE: Final = frozenset(Use)
_USES: Final = tuple(use.value for use in Use)


def _endpoint(value: object) -> str:
    """The same judgement as ``oci.endpoint``'s, without its libraries; the value may be secret."""
    try:
        url = urlsplit(value if isinstance(value, str) else "")
        good = url.scheme in {"http", "https"} and bool(url.hostname) and is_base_path(url.path)
        good = good and url.port != 0 and "@" not in url.netloc
    except ValueError:
        good = False
    text = str(value)
    if not good or set(text) & set("?#\\") or not text.isprintable() or " " in text:
        raise ValueError(
            "endpoint is not a base URL; write for example endpoint: http://registry:5000"
        )
    return text.rstrip("/")


def _realms(value: object) -> frozenset[str]:
    if isinstance(value, list | tuple | frozenset):
        return frozenset(map(_realm, value))
    raise ValueError(
        "auth_realms must be a list of hosts; write for example auth_realms: [auth.example.com]"
    )


def _realm(value: object) -> str:
    found = _HOST.fullmatch(value.lower()) if isinstance(value, str) else None
    if found is None or not 0 < int(found["port"] or 1) <= _HIGHEST_PORT:
        # Only the host is shown: a URL may hold a login.
        raise ValueError(
            "auth_realms must name hosts as host or host:port; write for example "
            "auth_realms: [auth.example.com]"
        )
    return found[0]


def _networks(value: object) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    if not isinstance(value, list | tuple) or len(value) > _NETWORKS_MOST:
        raise ValueError(
            f"allowed_networks must be a list of at most {_NETWORKS_MOST} networks; write for "
            f"example {_NETWORK_EXAMPLE}"
        )
    return tuple(map(_allowed_network, value))


def _allowed_network(value: object) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return value
    # A number would be read as the address that it stands for.
    text = value if isinstance(value, str) else ""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        meant = f"write {ipaddress.ip_network(text, strict=False)}"
    except ValueError:
        meant = f"write for example {_NETWORK_EXAMPLE}"
    raise ValueError(
        f"allowed_networks: {str(value)[:60]!a} is not a network of IPv4 or IPv6; {meant}"
    )


def _uses(value: object) -> frozenset[Use]:
    right = f"some of {', '.join(_USES)}, for example allow: [copy_from]"
    if not isinstance(value, list | tuple | frozenset) or not value:
        raise ValueError(f"allow must be a list of {right}; leave it out to allow all")
    for name in value:
        if name not in _USES:
            raise ValueError(f"allow: unknown use {name!r};{did_you_mean(str(name), _USES)}")
    return frozenset(map(Use, value))


def _limits(value: object) -> Limits:
    if isinstance(value, Limits):
        return value
    if isinstance(value, dict):
        return Limits(**{name: _limit(name, number) for name, number in value.items()})
    raise ValueError("limits must be a mapping, for example limits: {transfers: 4}")


def _limit(name: object, value: object) -> Any:
    if not isinstance(name, str) or name not in _READERS:
        raise ValueError(f"limits: unknown {name!r};{did_you_mean(str(name), list(_READERS))}")
    return _READERS[name](value)


def _rate(value: object) -> float:
    number = _number(value)
    if number is None or not math.isfinite(number) or number <= 0:
        raise ValueError("limits: requests_per_second must be a positive number, such as 50 or 0.5")
    return number


def _count(value: object) -> int:
    number = _number(value)
    if number is None or not math.isfinite(number) or number < 1 or number != int(number):
        raise ValueError("limits: transfers must be a positive whole number, such as 4")
    return int(number)


def _bytes(value: object) -> int:
    return _size(value, "limits: bytes_per_second")


def _max_body(value: object) -> int:
    return _size(value, "max_body")


def _size(value: object, option: str) -> int:
    """A number of bytes, or one with a unit."""
    found = None if isinstance(value, bool) else _SIZE.fullmatch(str(value))
    size = int(float(found[1]) * _UNITS.get(found[2], 0)) if found else 0
    if size < 1:
        raise ValueError(
            f"{option} must be a positive number of bytes, or one with a unit, "
            "such as 50MB or 20MiB"
        )
    return size


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


_READERS: Final[dict[str, Callable[[object], Any]]] = {
    "requests_per_second": _rate,
    "transfers": _count,
    "bytes_per_second": _bytes,
}


def _texts(value: tuple[object, ...]) -> list[str]:
    return list(map(str, value))


def _sorted(value: frozenset[str]) -> list[str]:
    return sorted(value)


def _written(value: Limits) -> dict[str, float]:
    return {name: number for name, number in asdict(value).items() if number is not None}


#: A base URL, which may have a path, without a slash at its end.
EndpointUrl = Annotated[str, PlainValidator(_endpoint)]
#: ``host[:port]``, in lower case.
Realms = Annotated[frozenset[str], PlainValidator(_realms), PlainSerializer(_sorted)]
#: Networks that addresses may lie in, at most 64.
Networks = Annotated[
    tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...],
    PlainValidator(_networks),
    PlainSerializer(_texts),
]
Uses = Annotated[frozenset[Use], PlainValidator(_uses), PlainSerializer(_sorted)]
#: The largest body of a request. Unit: bytes.
MaxBody = Annotated[int, PlainValidator(_max_body)]
LimitsOption = Annotated[Limits, PlainValidator(_limits), PlainSerializer(_written)]
