"""What the APIs of private and public registries answer alike: a login, pages of repositories."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import SecretStr

from transship.errors import PrepareFailed
from transship_worker.credentials.access import Credentials


def login_of(data: Mapping[str, Any]) -> Credentials:
    """The login of one ``authorizationData`` of GetAuthorizationToken.

    Raises:
        PrepareFailed: It has no token of the form that is documented.
    """
    try:
        text = base64.b64decode(data["authorizationToken"]).decode()
    except (binascii.Error, UnicodeDecodeError):
        text = ""
    username, colon, password = text.partition(":")
    if not colon:
        raise PrepareFailed("AWS gave an authorization token that cannot be read")
    return Credentials(username, SecretStr(password), data.get("expiresAt"))


def repository_pages(
    ask: Callable[[Mapping[str, Any]], Mapping[str, Any]], page_size: int
) -> Iterator[list[Any]]:
    """Pages of DescribeRepositories, each asked when it is wanted.

    ``ask`` takes the arguments of one request. Its errors are raised from the iterator.
    """
    arguments: dict[str, Any] = {"maxResults": page_size}
    while True:
        answer = ask(arguments)
        yield answer["repositories"]
        if (following := answer.get("nextToken")) is None:
            return
        arguments["nextToken"] = following
