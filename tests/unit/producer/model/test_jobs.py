"""Job models: ids, requests, records, errors."""

from __future__ import annotations

import hashlib
import json
import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from transship import errors
from transship.errors import PushError, UnknownJob
from transship.model.jobs import JobId
from transship.model.push_request import PushRequest
from transship.model.request_fields import request_problem
from transship_config.errors import TransshipError


def request(**changes: object) -> PushRequest:
    return PushRequest.model_validate({"image": "gcr.io/a/b:1", "registry": "prod"} | changes)


def test_ids_sort_by_time_and_name_their_account() -> None:
    ids = [JobId.new("ci") for _ in range(3)]

    assert [i[:9] for i in ids] == sorted(i[:9] for i in ids)
    assert len(set(ids)) == 3
    assert {JobId.parse(i).account for i in ids} == {"ci"}
    assert JobId.parse(JobId.new()).account == "default"
    for account in ("team-a", "a-b-c", "_x", "9", "x" * 32, "a-"):
        assert JobId.parse(JobId.new(account)).account == account


@given(st.text(max_size=60))
def test_any_text_is_an_id_or_refused(text: str) -> None:
    try:
        job = JobId.parse(text)
    except UnknownJob as error:
        assert "transship jobs" in str(error)
    else:
        assert JobId.parse(job) == job


def test_an_id_cannot_reach_out_of_its_account() -> None:
    names = ["a:b", "*", "?", "[a]", "default", "-a", "a b", "", "x" * 33, "a\nb", "ä"]
    for text in ["../" + "0" * 20, *("0" * 20 + f"-{name}" for name in names)]:
        with pytest.raises(UnknownJob):
            JobId.parse(text)


def test_a_stored_request_is_read_back_equal() -> None:
    full = request(
        source="x:1", engine="gpu-2", labels={"run": "42"}, bulk=True, deadline_s=5, expires_s=6
    )

    assert PushRequest.model_validate_json(full.to_stored()) == full
    assert json.loads(request().to_stored()) == {
        "version": 1,
        "image": "gcr.io/a/b:1",
        "registry": "prod",
    }


def test_a_request_about_platforms_has_the_version_that_older_workers_leave() -> None:
    one = request(platform="linux/aarch64")
    assert PushRequest.model_validate_json(one.to_stored()) == one
    assert json.loads(one.to_stored()) == {
        "version": 2,
        "image": "gcr.io/a/b:1",
        "registry": "prod",
        "platform": "linux/arm64",
    }
    assert json.loads(request(require_all_platforms=True).to_stored())["version"] == 2
    assert one.display == "gcr.io/a/b:1 (linux/arm64) → prod"
    assert one.facts()["platform"] == "linux/arm64"


def test_only_what_a_request_says_about_platforms_changes_its_fingerprint() -> None:
    older = hashlib.sha256(
        request()
        .model_dump_json(exclude={"platform", "require_all_platforms", "on_behalf_of"})
        .encode()
    )
    prints = [
        request().fingerprint(),
        request(platform="linux/arm64").fingerprint(),
        request(platform="linux/amd64").fingerprint(),
        request(require_all_platforms=True).fingerprint(),
    ]
    assert prints[0] == older.hexdigest()[:32]
    assert len(set(prints)) == 4


def test_an_image_without_a_tag_gets_latest() -> None:
    assert str(request(image="gcr.io/a/b").image) == "gcr.io/a/b:latest"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"image": "gcr.io/A"}, "image: .*write 'a'"),
        ({"image": "gcr.io/a@sha256:" + "0" * 64}, "a push needs a tag"),
        ({"registry": "no spaces"}, "registry: "),
        ({"platform": "linux"}, "platform: 'linux' is no platform; write os/arch"),
        ({"platform": "linux/amd46"}, "platform: .*did you mean 'amd64'"),
        ({"platform": 64}, "platform: .*write os/arch"),
        ({"platform": "linux/amd64", "require_all_platforms": True}, "choose one: platform or"),
        ({"require_all_platforms": 1}, "require_all_platforms: "),
        ({"labels": {"a": "\x1b[31m"}}, "labels.a: control characters"),
        ({"labels": {str(n): "" for n in range(40)}}, "labels: .*at most 32"),
        ({"source": "a b"}, "source: .*no white space"),
        ({"deadline_s": 0}, "deadline_s: "),
        ({"version": 4}, "version: "),
        ({"surprise": 1}, "surprise: "),
    ],
)
def test_a_bad_request_names_its_field(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        request(**changes)

    assert re.search(says, str(request_problem(caught.value)))


def _all_errors(kind: type[TransshipError]) -> list[type[TransshipError]]:
    return [kind, *(e for sub in kind.__subclasses__() for e in _all_errors(sub))]


@pytest.mark.parametrize(
    "kind", [e for e in _all_errors(TransshipError) if e.__module__ == errors.__name__]
)
def test_every_error_pickles_and_stands_in_the_tree(kind: type[TransshipError]) -> None:
    error = kind("what is wrong")
    copy = pickle.loads(pickle.dumps(error))

    assert (type(copy), copy.message) == (kind, "what is wrong")
    assert kind.__name__ in (errors.__doc__ or "")


def test_a_pickled_push_error_keeps_the_registrys_wish() -> None:
    copy = pickle.loads(pickle.dumps(errors.RateLimited("slow down", retry_after_s=7)))

    assert copy.retry_after_s == 7


def test_codes_are_distinct() -> None:
    codes = [e.code for e in _all_errors(PushError)]

    assert len(codes) == len(set(codes))
