"""The words of a refusal, as Docker Engine and Podman write them."""

from __future__ import annotations

import io

import docker
import pytest
import requests
from urllib3 import HTTPResponse

from transship_worker.transports.engine.answers import MOST_READ, explanation, refusal


def answered(status: int, body: bytes) -> requests.Response:
    response = requests.Response()
    response.status_code = status
    response.url = "http+docker://localhost/v1.41/images/x/push"
    response.raw = HTTPResponse(io.BytesIO(body), preload_content=False)
    return response


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"message":"No such image: a:1"}', "No such image: a:1"),
        (
            b'{"cause":"image not known","message":"failed to find image a:1","response":404}',
            "failed to find image a:1",
        ),
        # Podman 5.4: a push that failed before it began to stream.
        (
            b'{"errorDetail":{"message":"unauthorized: no"},"error":"unauthorized"}\n',
            "unauthorized: no",
        ),
        (b'{"status":"The push refers to [a]"}\n{"error":"denied"}\n', "denied"),
        (b'{"cause":"nothing else"}', "nothing else"),
        (b"page not found\n", "page not found"),
        (b"[1, 2]", "[1, 2]"),
        (b'{"message": 7}', '{"message": 7}'),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"", ""),
    ],
)
def test_the_words_of_every_form_are_found(body: bytes, words: str) -> None:
    assert explanation(body) == words


@pytest.mark.parametrize(
    ("status", "kind"), [(404, docker.errors.NotFound), (500, docker.errors.APIError)]
)
def test_a_refusal_is_the_sdks_error_with_the_engines_words(
    status: int, kind: type[docker.errors.APIError]
) -> None:
    error = refusal(answered(status, b'{"errorDetail":{"message":"x: no"},"error":"x: no"}'))
    assert type(error) is kind
    assert (error.status_code, error.explanation) == (status, "x: no")


def test_an_answer_that_is_no_refusal_is_none_and_is_not_read() -> None:
    answer = answered(200, b'{"status":"Preparing"}')
    assert refusal(answer) is None
    assert answer.raw.read() == b'{"status":"Preparing"}'


def test_a_refusal_without_end_is_read_to_a_bound() -> None:
    answer = answered(500, b"x" * (3 * MOST_READ))
    error = refusal(answer)
    assert error is not None
    assert len(str(error.explanation)) == MOST_READ
