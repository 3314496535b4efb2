"""Secrets are taken out of texts by their value, in every spelling, and by their form."""

from __future__ import annotations

import pytest

from tests.support.secrets.planted import Planted
from transship_worker.credentials.redaction import Redactor, formless, hidden, spellings

SECRET = 'pa ss/w+örd"%&1'


@pytest.mark.parametrize("spelling", sorted(Planted("", SECRET, "user").spellings()))
def test_a_secret_is_hidden_however_it_is_written(spelling: str) -> None:
    text = f"refused https://user:{spelling}@host/?a={spelling} for {spelling}"
    assert spelling not in hidden(text, spellings(SECRET, "user"))


def test_no_secret_hides_nothing() -> None:
    assert hidden("no secret", spellings("", "user")) == "no secret"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("not for Authorization: Bearer abc123def456, at all", "Bearer ***, at all"),
        ("basic dXNlcjpwYXNz and dXNlcjpwYXNz again", "basic *** and *** again"),
        ("a eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ4In0.c2lnbmF0dXJl b", "a *** b"),
        ("Basic%20dXNlcjpwYXNzMQ==", "Basic%20***"),
    ],
)
def test_what_has_the_form_of_a_credential_is_hidden(text: str, shown: str) -> None:
    assert formless(text).endswith(shown)


@pytest.mark.parametrize(
    "text",
    [
        "no basic auth credentials",
        "it wants bearer authentication",
        'Basic realm="registry.example.com"',
        "sha256:0123456789abcdef0123456789abcdef",
    ],
)
def test_ordinary_words_stay(text: str) -> None:
    assert formless(text) == text


def test_a_redactor_that_is_asked_while_it_looks_up_does_not_wait_for_itself() -> None:
    asked: list[str] = []

    def known() -> set[str]:
        asked.append(redactor("hunter22"))
        return {"hunter22"}

    redactor = Redactor(known)
    assert redactor("hunter22") == "***"
    assert asked == ["hunter22"]
