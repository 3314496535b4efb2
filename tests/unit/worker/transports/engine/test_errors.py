"""What the Docker SDK raises, and what becomes of it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import docker
import pytest
import requests
import urllib3
from pydantic import SecretStr

from transship.errors import EngineUnavailable
from transship_config.errors import UsageError
from transship_config.names import NAME_PATTERN
from transship_worker.credentials.access import Credentials
from transship_worker.transports.engine.calls import auth_config
from transship_worker.transports.engine.client import _fitting, find_engine
from transship_worker.transports.engine.endpoint import Endpoint
from transship_worker.transports.engine.errors import engine_errors

HERE = Endpoint("unix:///run/x.sock", origin="DOCKER_HOST")


def raised(error: BaseException) -> str:
    with pytest.raises(EngineUnavailable) as caught, engine_errors("build-7", HERE):
        raise error
    assert caught.value.__cause__ is error
    return caught.value.message


def wrapped(number: int) -> Exception:
    """An error of the socket in the wrappings that requests and the SDK put around it."""
    inner = urllib3.exceptions.ProtocolError("aborted", OSError(number, os.strerror(number)))
    error = docker.errors.DockerException("Error while fetching server API version")
    error.__cause__ = requests.ConnectionError(inner)
    return error


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ECONNREFUSED])
def test_nothing_at_the_address_says_where_it_was_looked_for(number: int) -> None:
    assert raised(wrapped(number)) == (
        "engine build-7 is not there: nothing answers at unix:///run/x.sock (DOCKER_HOST); "
        "start it, or set DOCKER_HOST"
    )


def test_a_socket_that_may_not_be_opened_says_so() -> None:
    assert "permission denied on unix:///run/x.sock" in raised(wrapped(errno.EACCES))


@pytest.mark.parametrize(
    "error",
    [
        requests.ReadTimeout("x"),
        urllib3.exceptions.ReadTimeoutError(urllib3.HTTPConnectionPool("h"), "/", "x"),
    ],
)
def test_silence_says_so(error: Exception) -> None:
    assert raised(error) == "engine build-7 does not answer at unix:///run/x.sock (DOCKER_HOST)"


@pytest.mark.parametrize(
    "error",
    [
        urllib3.exceptions.ProtocolError("Connection broken"),
        requests.exceptions.ChunkedEncodingError("x"),
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        ValueError("Read on closed or unwrapped SSL socket."),
        docker.errors.StreamParseError("no JSON"),
    ],
)
def test_whatever_breaks_off_is_unavailable(error: Exception) -> None:
    assert raised(error).startswith("engine build-7 broke off at unix:///run/x.sock")


def test_the_engines_own_answer_passes() -> None:
    with pytest.raises(docker.errors.APIError), engine_errors("build-7", HERE):
        raise docker.errors.NotFound("no such image")


def test_a_defect_is_not_taken_for_an_engine_that_is_away() -> None:
    with pytest.raises(ZeroDivisionError), engine_errors("build-7", HERE):
        raise ZeroDivisionError


@pytest.mark.parametrize("entry", ['"no object"', '{"auth": "*"}'])
def test_a_broken_login_state_is_named(
    entry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text(f'{{"auths": {{"registry.lan": {entry}}}}}')
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    engine = find_engine({"DOCKER_HOST": "unix:///nowhere"}, name="e")
    with pytest.raises(EngineUnavailable, match="let DOCKER_CONFIG name another folder"):
        engine.ping()


@pytest.mark.parametrize("version", ["1.40", "0.9", "v1.45", "new"])
def test_a_version_of_the_api_that_cannot_be_spoken_is_refused(version: str) -> None:
    with pytest.raises(UsageError, match=r"leave it unset, or write 1\.41 or newer"):
        find_engine({"DOCKER_HOST": "unix:///nowhere", "DOCKER_API_VERSION": version})


def test_a_login_is_handed_over_and_no_login_is_never_none() -> None:
    secret = SecretStr("pw")
    assert auth_config(Credentials("me", secret)) == {"username": "me", "password": "pw"}
    assert auth_config(Credentials("<token>", secret)) == {"identitytoken": "pw"}
    assert auth_config(None) == {}


@pytest.mark.parametrize(
    ("name", "fitting"),
    [
        ("build-7", "build-7"),
        ("Bob's MacBook (2)", "Bob-s-MacBook-2-"),
        ("_hidden.lan", "hidden.lan"),
        ("x" * 80, "x" * 63),
        ("ü", "engine"),
        ("", "engine"),
    ],
)
def test_an_engines_own_name_is_made_to_fit(name: str, fitting: str) -> None:
    import re

    assert _fitting(name) == fitting
    assert re.fullmatch(NAME_PATTERN, fitting)
