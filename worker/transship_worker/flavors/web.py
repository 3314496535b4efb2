"""Vendors' own web APIs, where a registry's API does not do: JSON, bounded, with typed errors.

Asked from a thread. A redirect is not followed, since the request may carry a token.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from transship.errors import AnswerMalformed, CloudUnavailable, Denied, PushError, RepositoryMissing
from transship_worker.flavors.sdk import check_proxy
from transship_worker.oci.headers import retry_after

if TYPE_CHECKING:
    import requests

#: Connecting, and the longest silence within an answer. Unit: s.
TIMEOUT_S: Final = (5.0, 20.0)
#: All of an answer. Unit: s.
LONGEST_S: Final = 60.0
#: The largest answer that is read. Unit: bytes.
LARGEST: Final = 8 * 1024 * 1024
#: Pages of one list that are read.
PAGES: Final = 10_000
#: How much is read at once. Unit: bytes.
PIECE: Final = 65_536


@dataclass(frozen=True, slots=True)
class Api:
    """One vendor's API."""

    #: The vendor, for messages.
    vendor: str
    #: Base URL; nothing is asked elsewhere.
    base: str

    def ask(
        self,
        url: str,
        *,
        about: str,
        token: SecretStr | None = None,
        body: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """The JSON object at a URL of the API: by GET, or by POST with a body.

        ``about`` is what is asked for, for messages.

        Raises:
            RepositoryMissing: there is none (404).
            Denied: not to this login.
            CloudUnavailable: not now.
            AnswerMalformed: the answer is none of the API's, or the URL is not.
        """
        import requests

        if urlsplit(url)[:2] != urlsplit(self.base)[:2]:
            raise AnswerMalformed(f"{self.vendor}: {about} go on at another host, {_host(url)}")
        check_proxy("requests", url)
        try:
            with requests.request(
                "GET" if body is None else "POST",
                url,
                json=body,
                # Always: else the library looks for a login in ~/.netrc.
                auth=_Bearer(token),
                timeout=TIMEOUT_S,
                allow_redirects=False,
                stream=True,
            ) as answer:
                content = self._read(answer, about)
        except (requests.RequestException, OSError) as error:
            raise CloudUnavailable(
                f"{self.vendor} did not answer ({about}): {type(error).__name__}"
            ) from error
        if answer.status_code != 200:
            raise self._refused(answer, about, login=token is not None or body is not None)
        return self._object(content, about)

    def _read(self, answer: requests.Response, about: str) -> bytes:
        found, end = bytearray(), time.monotonic() + LONGEST_S
        for piece in answer.iter_content(PIECE):
            found += piece
            if len(found) > LARGEST:
                raise AnswerMalformed(f"{self.vendor}: {about} are more than {LARGEST} bytes")
            if time.monotonic() > end:
                raise CloudUnavailable(f"{self.vendor} took too long to answer ({about})")
        return bytes(found)

    def _object(self, content: bytes, about: str) -> dict[str, Any]:
        try:
            found = json.loads(content)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise AnswerMalformed(f"{self.vendor} did not answer with a JSON object ({about})")
        return found

    def _refused(self, answer: requests.Response, about: str, *, login: bool) -> PushError:
        status = answer.status_code
        if status in {401, 403}:
            who = "the component's login" if login else "a request without a login"
            return Denied(f"{self.vendor} refused {who} for {about} ({status})")
        if status == 404:
            return RepositoryMissing(
                f"{self.vendor} has nothing to show for {about} (404); is the name right, and may "
                "this login see it?"
            )
        if status == 429 or status >= 500:
            said = "asks for fewer requests" if status == 429 else f"answered {status}"
            return CloudUnavailable(
                f"{self.vendor} {said} ({about})", retry_after_s=_wait(answer.headers)
            )
        return AnswerMalformed(f"{self.vendor} answered {status} for {about}")


async def pages(
    api: Api,
    first: str,
    following: Callable[[dict[str, Any]], str | None],
    *,
    about: str,
    token: SecretStr | None = None,
) -> AsyncIterator[dict[str, Any]]:
    """The pages of a list, from the URL of its first; ``following`` finds the next one's.

    Raises:
        AnswerMalformed: a page comes twice, or there are more than ``PAGES``.
        PushError: as ``ask`` does.
    """
    url: str | None = first
    seen: set[str] = set()
    while url:
        if url in seen or len(seen) == PAGES:
            raise AnswerMalformed(f"{api.vendor}: the pages of {about} have no end")
        seen.add(url)
        page = await asyncio.to_thread(api.ask, url, about=about, token=token)
        yield page
        url = following(page)


def named(page: dict[str, Any], key: str, about: str) -> list[str]:
    """The ``name`` of each object in a list of a page; no list: none.

    Raises:
        AnswerMalformed: it is no such list.
    """
    found = page.get(key)
    if found is None:
        return []
    try:
        return [str(entry["name"]) for entry in found]
    except (TypeError, KeyError):
        raise AnswerMalformed(f"{about}: {key} is not a list of things with a name") from None


class _Bearer:
    """Puts a token into a request, or nothing."""

    def __init__(self, token: SecretStr | None) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token is not None:
            request.headers["Authorization"] = f"Bearer {self._token.get_secret_value()}"
        return request


def _host(url: str) -> str:
    return (urlsplit(url).hostname or "")[:100]


def _wait(headers: Mapping[str, str]) -> float | None:
    """How long to wait. Docker Hub tells the time when (docs.docker.com, "Docker Hub API")."""
    until = headers.get("X-Retry-After", "")
    if until.isascii() and until.isdigit() and len(until) <= 12:
        return max(float(until) - time.time(), 0.0)
    return retry_after(headers)
