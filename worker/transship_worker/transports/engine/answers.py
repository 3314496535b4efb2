"""Why an engine refused a call, read from its answer.

Docker answers ``{"message": …}``. Podman answers ``{"cause": …, "message": …, "response": …}``,
and a failed push with ``{"errorDetail": {"message": …}, "error": …}``, at which the Docker SDK
raises ``KeyError`` (seen with Podman 5.4 and 5.8, docker 7.1).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import docker
import requests

#: What is read of a refusal. Unit: bytes.
MOST_READ: Final = 64 * 1024


def refusal(response: requests.Response) -> docker.errors.APIError | None:
    """The SDK's error for an answer with an error's status, its text found; ``None``: no error."""
    try:
        response.raise_for_status()
    except requests.HTTPError as error:
        kind = docker.errors.NotFound if response.status_code == 404 else docker.errors.APIError
        return kind(error, response=response, explanation=explanation(_body(response)))  # type: ignore[arg-type]
    return None


def explanation(body: bytes) -> str:
    """The engine's words in the body of a refusal."""
    text = body.decode("utf-8", "replace").strip()
    # A push that began to stream has one JSON value a line; the error is the last.
    for line in (text, *reversed(text.splitlines())):
        with suppress(ValueError, RecursionError):
            told = _told(json.loads(line))
            if told:
                return told
    return text


def _told(value: Any) -> str:
    if not isinstance(value, Mapping):
        return ""
    detail = value.get("errorDetail")
    inner = detail.get("message") if isinstance(detail, Mapping) else None
    for text in (value.get("message"), inner, value.get("error"), value.get("cause")):
        if isinstance(text, str) and text.strip():
            return text.strip()
    return ""


def _body(response: requests.Response) -> bytes:
    found = bytearray()
    with suppress(requests.RequestException):
        # What came before the connection broke may say why.
        for piece in response.iter_content(MOST_READ):
            found += piece
            if len(found) >= MOST_READ:
                break
    return bytes(found[:MOST_READ])
