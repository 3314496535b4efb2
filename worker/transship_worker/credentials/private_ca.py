"""TLS with the ``requests`` library to a server whose certificate a private CA signed."""

from __future__ import annotations

import ssl
from typing import Any

import urllib3.util
from requests.adapters import HTTPAdapter


class PrivateCaAdapter(HTTPAdapter):
    """For a session whose ``verify`` names a CA, which is accepted as Docker accepts it.

    On Python 3.13 and newer, urllib3 sets ``VERIFY_X509_STRICT``. It refuses certificates
    without the extensions that RFC 5280 requires, such as the Authority Key Identifier, which
    many private CAs do not write. Chain, name and dates are still checked.
    """

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the connection pools, whose connections load the CA."""
        context = urllib3.util.create_urllib3_context()
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        super().init_poolmanager(*args, ssl_context=context, **kwargs)
