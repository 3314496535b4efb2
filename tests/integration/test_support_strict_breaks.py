"""The strict registry breaks off, lies and lets tokens die as its rules say."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping

import pytest
import requests

from tests.support.images.corpus import KIB, large_layers, shared_layers
from tests.support.images.corpus_fill import fill
from tests.support.processes import eventually, program
from tests.support.strict_registry.registry import ALWAYS, Rules, StrictRegistry, TokenRules
from tests.support.strict_registry.requests import (
    DATA,
    ask,
    blob_path,
    code,
    digest_of,
    opened,
    put_blob,
)

USER = ("pusher", "secret")


@pytest.fixture
def registry() -> Iterator[StrictRegistry]:
    with StrictRegistry() as made:
        yield made


def read_some(registry: StrictRegistry, **headers: str) -> tuple[int, int]:
    """Status and number of bytes of a read of the blob, whole or not."""
    with requests.get(
        f"{registry.base}{blob_path()}", headers=headers, stream=True, timeout=30
    ) as answer:
        # Raw: a broken answer gives what came of it.
        return answer.status_code, sum(len(piece) for piece in _until_the_end(answer))


def _until_the_end(answer: requests.Response) -> Iterator[bytes]:
    try:
        yield from answer.iter_content(1024)
    except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
        return


def test_a_read_breaks_off_and_goes_on_by_range() -> None:
    with StrictRegistry(Rules(cut_download=100_352)) as registry:
        put_blob(registry)
        assert read_some(registry) == (200, 100_352)
        etag = ask(registry, "HEAD", blob_path()).headers["ETag"]
        rest = (206, len(DATA) - 100_352)
        assert read_some(registry, **{"Range": "bytes=100352-", "If-Range": etag}) == rest
        other = {"Range": "bytes=100352-", "If-Range": '"another"'}
        assert read_some(registry, **other) == (200, len(DATA))
        assert registry.counts.cuts == 1
        assert registry.counts.downloaded[digest_of(DATA)] == 2 * len(DATA)


def test_a_read_may_break_off_each_time_and_know_no_ranges() -> None:
    with StrictRegistry(
        Rules(cut_download=102_400, cut_downloads=ALWAYS, ranges=False, etags=False)
    ) as registry:
        put_blob(registry)
        for _ in range(3):
            assert read_some(registry, Range="bytes=1000-") == (200, 102_400)
        assert "ETag" not in ask(registry, "HEAD", blob_path()).headers


@pytest.mark.parametrize("keeps", [True, False], ids=["kept", "forgotten"])
def test_an_upload_breaks_off_and_is_kept_or_forgotten(keeps: bool) -> None:
    with StrictRegistry(Rules(cut_upload=100_000, keeps_uploads=keeps)) as registry:
        place = opened(registry)
        with pytest.raises(requests.ConnectionError):
            ask(registry, "PATCH", place, data=DATA)
        told = ask(registry, "GET", place)
        if not keeps:
            assert code(told) == (404, "BLOB_UPLOAD_UNKNOWN")
            assert put_blob(registry).status_code == 201
            return
        assert (told.status_code, told.headers["Range"]) == (204, "0-99999")
        rest = {"Content-Range": f"100000-{len(DATA) - 1}"}
        place = f"{told.headers['Location']}&digest={digest_of(DATA)}"
        assert ask(registry, "PUT", place, data=DATA[100_000:], headers=rest).status_code == 201
        assert registry.counts.received == len(DATA)


def test_a_client_that_hangs_up_leaves_what_it_sent(registry: StrictRegistry) -> None:
    place = opened(registry)

    def broken() -> Iterator[bytes]:
        yield DATA
        raise RuntimeError("hang up")

    with pytest.raises(RuntimeError):
        ask(registry, "PATCH", place, data=broken())
    eventually(lambda: registry.counts.received == len(DATA), what="all of it received")
    assert ask(registry, "GET", place).headers["Range"] == f"0-{len(DATA) - 1}"


def test_one_blob_is_corrupt_when_it_is_read() -> None:
    with StrictRegistry(Rules(corrupt=frozenset({digest_of(DATA)}))) as registry:
        put_blob(registry)
        put_blob(registry, b"sound")
        found = ask(registry, "GET", blob_path()).content
        assert (len(found), found == DATA) == (len(DATA), False)
        assert ask(registry, "GET", blob_path(b"sound")).content == b"sound"


def login(registry: StrictRegistry, scope: str, user: tuple[str, str] = USER) -> Mapping[str, str]:
    answer = ask(registry, "GET", f"/token?service=strict&scope={scope}", auth=user)
    assert answer.status_code == 200
    return {"Authorization": f"Bearer {answer.json()['token']}"}


def test_a_token_is_asked_for_and_good_for_its_scope_only() -> None:
    rules = TokenRules(dict([USER, ("reader", "r")]), {"reader": frozenset({"pull"})})
    with StrictRegistry(Rules(tokens=rules)) as registry:
        answer = ask(registry, "POST", "/v2/a/b/blobs/uploads/?mount=x&from=c/d")
        assert answer.status_code == 401
        challenge = answer.headers["WWW-Authenticate"]
        assert f'realm="{registry.base}/token",service="strict"' in challenge
        assert 'scope="repository:a/b:pull,push repository:c/d:pull"' in challenge

        def post(scope: str, user: tuple[str, str] = USER) -> int:
            headers = login(registry, scope, user)
            return ask(registry, "POST", "/v2/a/b/blobs/uploads/", headers=headers).status_code

        assert post("repository:a/b:pull") == 401
        assert post("repository:c/d:pull,push") == 401
        assert post("repository:a/b:pull,push", ("reader", "r")) == 401
        assert post("repository:a/b:pull,push") == 202
        assert ask(registry, "GET", "/token?service=strict", auth=("a", "b")).status_code == 401
        assert registry.counts.tokens == 4


def test_a_token_dies_after_its_requests_or_its_time() -> None:
    with StrictRegistry(Rules(tokens=TokenRules(dict([USER]), requests=2))) as registry:
        headers = login(registry, "")
        statuses = [ask(registry, "GET", "/v2/", headers=headers).status_code for _ in range(3)]
        assert statuses == [200, 200, 401]
        registry.rules = Rules(tokens=TokenRules(dict([USER]), lifetime_s=0.2))
        headers = login(registry, "")
        eventually(
            lambda: ask(registry, "GET", "/v2/", headers=headers).status_code == 401,
            what="a dead token",
        )


def test_counting_begins_anew(registry: StrictRegistry) -> None:
    put_blob(registry)
    with registry.counting() as counts:
        ask(registry, "GET", "/v2/")
        assert dict(counts.requests) == {("GET", "ping"): 1}
        assert counts is registry.counts


@pytest.mark.parametrize(
    "rules",
    [
        Rules(),
        Rules(mounts=False, redirect=True, referrers=False, page_size=1),
        Rules(tokens=TokenRules(dict([USER])), redirect=True, chunks=False),
    ],
    ids=["plain", "awkward", "tokens"],
)
def test_skopeo_gets_along_with_it(rules: Rules) -> None:
    skopeo = program("skopeo")
    corpus = shared_layers(1, 1, shared=2, shared_size=50 * KIB, own_size=5 * KIB, seed="peer")
    large = large_layers(1, 700 * KIB, seed="peer")
    with StrictRegistry(rules) as registry:
        for one in (corpus, large):
            fill(registry.base, one, registry.authorize)
            (image,) = one.images
            names = [
                f"docker://{registry.address}/{name}" for name in (image.name, "copied/app:v1")
            ]
            logins = ["--src-creds=pusher:secret", "--dest-creds=pusher:secret"]
            plain = ["--src-tls-verify=false", "--dest-tls-verify=false", *logins]
            subprocess.run([skopeo, "--insecure-policy", "copy", *plain, *names], check=True)
            assert registry.digest("copied/app", "v1") == image.digest
