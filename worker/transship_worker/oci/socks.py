"""Connections through a SOCKS proxy, for aiohttp, which has none of its own (aiohttp-socks).

Imported only where a variable names such a proxy.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp_socks import ProxyConnectionError, ProxyConnector, ProxyError, ProxyTimeoutError
from aiohttp_socks import ProxyType as Kind

from transship_worker.oci.errors import ProxyRefusedLogin
from transship_worker.oci.proxies import Proxy

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

_KINDS: Final = {"socks5h": Kind.SOCKS5, "socks4a": Kind.SOCKS4}
#: How a connection can fail that is no error of aiohttp's. A proxy that hangs up ends a read.
_FAILURES: Final = (ProxyError, ProxyConnectionError, ProxyTimeoutError, OSError, EOFError)
#: The library's words for a refused login, or one that is absent (RFC 1928, 3; RFC 1929, 2).
_REFUSED_LOGIN: Final = ("authentication failure", "No acceptable authentication methods")
#: Codes of SOCKS 4 for a user who is not accepted.
_REFUSED_USER: Final = {0x5C, 0x5D}


class SocksConnector(ProxyConnector):
    """The proxy looks up names; what fails is an error of aiohttp's own."""

    def __init__(self, proxy: Proxy, **options: Any) -> None:
        """``options``: those of ``aiohttp.TCPConnector``."""
        self._named = f"SOCKS proxy {proxy.address}"
        self._variable = proxy.variable
        super().__init__(
            proxy.host,
            proxy.port,
            _KINDS[proxy.scheme],
            proxy.username,
            proxy.password,
            rdns=True,
            **options,
        )

    async def connect(
        self, req: ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        """A connection to the request's host.

        Raises:
            aiohttp.ClientConnectorError: the proxy cannot be reached, reaches nothing, or refuses
                the login (``ProxyRefusedLogin``); or the host's certificate does not verify.
        """
        try:
            return await super().connect(req, traces, timeout)
        except aiohttp.ClientError:
            raise
        except ssl.SSLCertVerificationError as error:
            raise aiohttp.ClientConnectorCertificateError(req.connection_key, error) from error
        except ssl.SSLError as error:
            raise aiohttp.ClientConnectorSSLError(req.connection_key, error) from error
        except _FAILURES as error:
            reason = str(error) or type(error).__name__
            failed = OSError(0, f"{self._named}: {reason}")
            if _is_refused_login(error):
                failed = ProxyRefusedLogin(
                    0,
                    f"{self._named} requires a login that it accepts ({reason}); set it in "
                    f"{self._variable}",
                )
            raise aiohttp.ClientProxyConnectionError(req.connection_key, failed) from error


def _is_refused_login(error: BaseException) -> bool:
    if not isinstance(error, ProxyError):
        return False
    return error.error_code in _REFUSED_USER or any(text in str(error) for text in _REFUSED_LOGIN)
