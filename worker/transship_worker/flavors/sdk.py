"""Cloud SDKs: imported when they are used, named with their extra when they are missing, and
refused where they would not use the proxy that the environment names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from urllib.parse import urlsplit

from transship.errors import PrepareFailed
from transship.installation import extra_hint
from transship_worker.oci.proxies import Proxies


@contextmanager
def needed(library: str, *, flavor: str, extra: str) -> Iterator[None]:
    """Around the import of an SDK.

    Raises:
        PrepareFailed: it is not installed here; says what to install.
    """
    try:
        yield
    except ImportError as error:
        detail = "" if isinstance(error, ModuleNotFoundError) else f": {error}"
        raise PrepareFailed(
            f"flavor {flavor!r} needs the extra {extra!r} on the worker "
            f"(cannot import {library}{detail}); hint: {extra_hint(extra)}"
        ) from error


def installed(module: str) -> bool:
    """Whether a module could be imported; it is not."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def check_proxy(library: str, url: str) -> None:
    """Return if a library that asks with ``requests`` would use the proxy for a URL.

    ``requests`` reads the same variables; SOCKS it speaks only with PySocks, which Transship does
    not bring (requests.readthedocs.io, "SOCKS").

    Raises:
        PrepareFailed: the URL is to be asked through a SOCKS proxy.
        InvalidSettings: a variable names a proxy that cannot be used.
    """
    proxy = Proxies(os.environ).of_text(url)
    if proxy is not None and proxy.is_socks and not installed("socks"):
        raise _unused(library, url, proxy.variable, "speaks no SOCKS")


def check_boto3_proxy(url: str) -> None:
    """The same for boto3, which speaks no SOCKS and does not read ``all_proxy`` (botocore 1.44).

    Raises:
        PrepareFailed: the URL is to be asked through a proxy that boto3 would not use.
        InvalidSettings: a variable names a proxy that cannot be used.
    """
    proxy = Proxies(os.environ).of_text(url)
    if proxy is None:
        return
    if proxy.is_socks:
        raise _unused("boto3", url, proxy.variable, "speaks no SOCKS")
    if proxy.variable.lower() == "all_proxy":
        raise _unused("boto3", url, proxy.variable, "does not read this variable")


def _unused(library: str, url: str, variable: str, reason: str) -> PrepareFailed:
    host = urlsplit(url).hostname
    return PrepareFailed(
        f"{variable} names a proxy for {host}, and {library} {reason}; set https_proxy to an HTTP "
        f"proxy, or add {host} to no_proxy"
    )
