"""Lists that a registry gives in pages: read to their end, checked, and never in a circle.

The registries are scripted: each pages as the one that is named beside it was reported to.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.images.registry_client import LOGIN, asking, errors
from tests.support.scripted_servers.hostile import HostileServer, Reply, Seen
from transship.errors import AnswerMalformed, PushRejected, RegistryUnavailable
from transship_worker.credentials.access import Credentials
from transship_worker.oci import tags
from transship_worker.oci.client import Repository

LIST = "/v2/acme/app/tags/list"
CATALOG = "/v2/_catalog"
BASIC = f"Basic {base64.b64encode(b'pusher:s3cret-password').decode()}"


@dataclass
class Answer:
    """What a list came to."""

    names: list[str]
    warnings: list[str]


async def all_tags(repository: Repository) -> list[str]:
    return [tag async for page in tags.tags(repository, page_size=2) for tag in page]


async def tags_and_warnings(
    server: HostileServer, *, page_size: int = 1_000, login: Credentials | None = None
) -> Answer:
    """The tags as a planner reads them."""

    async def read(repository: Repository) -> Answer:
        warnings: list[str] = []
        pages = tags.tags(repository, page_size=page_size, warn=warnings.append)
        return Answer([tag async for page in pages for tag in page], warnings)

    return await asking(server, read, login=login)


def page(*names: object, link: str | None = None, key: str = "tags") -> Reply:
    headers = {"Link": f'<{link}>; rel="next"'} if link else {}
    return Reply(200, json.dumps({"name": "acme/app", key: list(names)}).encode(), headers)


def follow(server: HostileServer, rule: Callable[[int, str | None], Reply]) -> None:
    """Answer each request for the list by its ``n`` and ``last``."""

    def answer(seen: Seen) -> Reply:
        query = parse_qs(urlsplit(seen.target).query)
        return rule(int(query["n"][0]), query.get("last", [None])[0])

    server.follow(LIST, answer)


def numbered(count: int) -> list[str]:
    return [f"v{number:05}" for number in range(count)]


async def test_pages_are_followed_whether_their_links_are_relative_or_not(
    server: HostileServer,
) -> None:
    server.expect("GET", f"{LIST}?n=2", page("a", "b", link=f"{LIST}?n=2&last=b"))
    server.expect("GET", f"{LIST}?n=2&last=b", page("c", link=f"{server.base}{LIST}?last=c%2F"))
    server.expect("GET", f"{LIST}?last=c%2F", page(link=f"{LIST}?last=d"))
    server.expect("GET", f"{LIST}?last=d", Reply(200, b'{"tags": null}'))
    assert await asking(server, all_tags) == ["a", "b", "c"]


async def test_pages_that_go_in_a_circle_end(server: HostileServer) -> None:
    server.expect("GET", f"{LIST}?n=2", page("a", link=f"{LIST}?last=a"))
    server.expect("GET", f"{LIST}?last=a", page("b", link=f"{LIST}?n=2"))
    with pytest.raises(AnswerMalformed, match="circle"):
        await asking(server, all_tags)


async def test_a_next_page_at_another_host_is_not_asked_for(
    server: HostileServer, other: HostileServer
) -> None:
    server.expect("GET", f"{LIST}?n=2", page("a", link=f"{other.base}{LIST}?last=a"))
    with pytest.raises(AnswerMalformed, match="another host"):
        await asking(server, all_tags)


@pytest.mark.parametrize(
    "link",
    ["next", f"{LIST}?last=a; rel=next", f"<{LIST}?last=a>", f'<{LIST}?last=a>; rel=""'],
)
async def test_a_link_that_cannot_be_read_is_not_the_end(server: HostileServer, link: str) -> None:
    reply = page("a")
    server.expect("GET", f"{LIST}?n=2", Reply(200, reply.body, {"Link": link}))
    with pytest.raises(AnswerMalformed, match="a Link header that cannot be read"):
        await asking(server, all_tags)


@pytest.mark.parametrize("link", ["<>; rel=next", "<http://[bad/>; rel=next", "<a b>; rel=next"])
async def test_a_link_that_leads_nowhere_is_not_the_end(server: HostileServer, link: str) -> None:
    server.expect("GET", f"{LIST}?n=2", Reply(200, page("a").body, {"Link": link}))
    with pytest.raises(AnswerMalformed):
        await asking(server, all_tags)


@pytest.mark.parametrize(
    "rel",
    [
        *("rel='next'", "rel=NEXT", "rel=`next`", 'rel="n\\ext"'),
        *('rel="first next"', 'rel="prev,next"'),
        'rel="http://www.iana.org/assignments/relation/next"',
    ],
)
async def test_a_link_is_read_however_its_relation_is_written(
    server: HostileServer, rel: str
) -> None:
    link = {"Link": f"<{LIST}?last=a>; {rel}"}
    server.expect("GET", f"{LIST}?n=2", Reply(200, page("a").body, link))
    server.expect("GET", f"{LIST}?last=a", page("b"))
    assert await asking(server, all_tags) == ["a", "b"]


async def test_a_link_of_another_kind_is_passed_over(server: HostileServer) -> None:
    link = {"Link": "<https://cdn.example>; rel=preconnect, </docs>; rel=help"}
    server.expect("GET", f"{LIST}?n=2", Reply(200, page("a").body, link))
    assert await asking(server, all_tags) == ["a"]


@pytest.mark.parametrize(
    "rel", ["more", '"nextpage continue"', "NEXT-PAGE", '"https://a.example/more"']
)
async def test_a_link_to_the_same_list_with_an_unknown_relation_is_followed(
    server: HostileServer, rel: str
) -> None:
    link = {"Link": f"<{LIST}?n=2&last=a>; rel={rel}, <{LIST}?n=2>; rel=mine, </docs>; rel=more"}
    server.expect("GET", f"{LIST}?n=2", Reply(200, page("a").body, link))
    server.expect("GET", f"{LIST}?n=2&last=a", page("b"))
    assert await asking(server, all_tags) == ["a", "b"]


@pytest.mark.parametrize("rel", ["self", '"prev previous"', "last", "first", "canonical", "'up'"])
async def test_a_link_to_the_same_list_that_is_not_its_next_page_is_passed_over(
    server: HostileServer, rel: str
) -> None:
    link = {"Link": f"<{LIST}?n=2&last=a>; rel={rel}"}
    server.expect("GET", f"{LIST}?n=2", Reply(200, page("a").body, link))
    assert await asking(server, all_tags) == ["a"]


async def test_several_links_with_unknown_relations_are_not_the_end(server: HostileServer) -> None:
    link = {"Link": f"<{LIST}?last=a>; rel=page2, <{LIST}?last=b>; rel=page3"}
    server.expect("GET", f"{LIST}?n=2", Reply(200, page("a").body, link))
    with pytest.raises(AnswerMalformed, match="links 2 other pages, none of them as the next"):
        await asking(server, all_tags)


async def test_a_linked_page_that_is_missing_does_not_make_the_repository_missing(
    server: HostileServer,
) -> None:
    # Artifactory linked pages without its repository key (renovatebot/renovate#15030).
    server.expect("GET", f"{LIST}?n=2", page("a", "b", link="/v2/app/tags/list?last=b"))
    server.expect("GET", "/v2/app/tags/list?last=b", Reply(404, errors("NAME_UNKNOWN")))
    with pytest.raises(AnswerMalformed, match="does not have the next page that it linked"):
        await asking(server, all_tags)


@pytest.mark.parametrize("inclusive", [False, True])
async def test_a_list_without_links_is_read_to_its_end(
    server: HostileServer, inclusive: bool
) -> None:
    names = numbered(1_500)

    def rule(n: int, last: str | None) -> Reply:
        start = 0 if last is None else names.index(last) + (not inclusive)
        return page(*names[start : start + n])

    follow(server, rule)
    found = await tags_and_warnings(server)
    assert (found.names, found.warnings) == (names, [])
    assert len(server.seen) == 3


@pytest.mark.parametrize("backwards", [False, True])
async def test_a_list_whose_pages_are_capped_and_not_sorted_is_read_to_its_end(
    server: HostileServer, backwards: bool
) -> None:
    names = numbered(230)

    def rule(_n: int, last: str | None) -> Reply:
        rest = [name for name in names if last is None or name > last][:60]
        return page(*(reversed(rest) if backwards else rest))

    follow(server, rule)
    assert sorted((await tags_and_warnings(server)).names) == names


@pytest.mark.parametrize("count", [50, 1_000, 1_001, 3_000])
async def test_a_registry_that_repeats_the_whole_list_is_asked_once_more(
    server: HostileServer, count: int
) -> None:
    # distribution 2.8 knows neither n nor last for tags.
    names = numbered(count)
    follow(server, lambda _n, _last: page(*reversed(names)))
    found = await tags_and_warnings(server)
    assert (found.names, found.warnings) == (names[::-1], [])
    assert len(server.seen) == 2


async def test_a_list_of_fewer_than_50_names_is_complete(server: HostileServer) -> None:
    server.expect("GET", f"{LIST}?n=1000", page(*numbered(49)))
    assert len((await tags_and_warnings(server)).names) == 49


async def test_a_registry_that_linked_a_page_before_is_believed_without_a_link(
    server: HostileServer,
) -> None:
    names = numbered(100)
    server.expect("GET", f"{LIST}?n=1000", page(*names[:60], link=f"{LIST}?last=x"))
    server.expect("GET", f"{LIST}?last=x", page(*names[60:]))
    server.expect("GET", f"{LIST}?n=1000", page(*names))

    async def twice(repository: Repository) -> list[int]:
        return [len([t async for p in tags.tags(repository) for t in p]) for _ in range(2)]

    assert await asking(server, twice) == [100, 100]


async def test_a_list_that_the_registry_cuts_off_is_an_error(server: HostileServer) -> None:
    # It knows n, does not know last, and links nothing.
    follow(server, lambda n, _last: page(*numbered(1_500)[:n]))
    with pytest.raises(AnswerMalformed, match="acme/app are cut off after 1000 names"):
        await tags_and_warnings(server)


async def test_a_registry_that_starts_again_after_the_last_name_gave_all(
    server: HostileServer,
) -> None:
    # As crane's registry (0.20) does.
    names = numbered(1_500)

    def rule(n: int, last: str | None) -> Reply:
        rest = [name for name in names if last is None or name > last]
        return page(*(rest or names)[:n])

    follow(server, rule)
    found = await tags_and_warnings(server)
    assert (found.names, found.warnings) == (names, [])


async def test_a_registry_that_refuses_to_continue_is_said(server: HostileServer) -> None:
    refused = Reply(400, errors("UNSUPPORTED", "no last here"))
    follow(server, lambda _n, last: refused if last else page(*numbered(60)))
    found = await tags_and_warnings(server)
    assert len(found.names) == 60
    assert "the list may have more than 60 names" in found.warnings[0]
    assert "no last here" in found.warnings[0]
    with pytest.raises(PushRejected):
        await asking(server, all_tags)


async def test_a_registry_that_fails_to_continue_fails_the_list(server: HostileServer) -> None:
    follow(server, lambda _n, last: Reply(503) if last else page(*numbered(60)))
    with pytest.raises(RegistryUnavailable):
        await tags_and_warnings(server)


async def test_what_cannot_be_a_tag_is_skipped_with_one_warning(server: HostileServer) -> None:
    # Artifactory lists digests among the tags (containers/skopeo#2346).
    digest = f"sha256:{'1607' * 16}"
    server.expect("GET", f"{LIST}?n=1000", page("1.10", digest, "../x", None, 7, "a b", "latest"))
    found = await tags_and_warnings(server)
    assert found.names == ["1.10", "latest"]
    assert found.warnings == [
        f"skipped 5 names that are not valid tags, for example '{digest}'",
    ]


async def test_a_skipped_name_shows_no_login_and_has_an_end(server: HostileServer) -> None:
    server.expect("GET", "/v2/", Reply(200))
    server.expect("GET", f"{LIST}?n=1000", page(f"!{BASIC} s3cret-password{'x' * 5_000}"))
    [warning] = (await tags_and_warnings(server, login=LOGIN)).warnings
    assert "s3cret" not in warning
    assert BASIC.partition(" ")[2] not in warning
    assert len(warning) < 250


@pytest.mark.parametrize(
    "body", [b"{}x", b'{"tags": {}}', b'{"tags": ""}', b'{"message": "log in"}', b'{"errors": []}']
)
async def test_an_answer_without_a_list_is_no_empty_list(
    server: HostileServer, body: bytes
) -> None:
    server.expect("GET", f"{LIST}?n=2", Reply(200, body))
    with pytest.raises(AnswerMalformed):
        await asking(server, all_tags)


@pytest.mark.parametrize(
    ("second", "match"),
    [
        (b'{"name": "acme/app"}', "has no list of tags"),
        (b'{"tags": ["b"], "errors": [{"code": "UNKNOWN"}]}', "tells errors"),
    ],
)
async def test_a_later_page_without_its_list_or_with_errors_is_not_the_end(
    server: HostileServer, second: bytes, match: str
) -> None:
    server.expect("GET", f"{LIST}?n=2", page("a", link=f"{LIST}?last=a"))
    server.expect("GET", f"{LIST}?last=a", Reply(200, second))
    with pytest.raises(AnswerMalformed, match=match):
        await asking(server, all_tags)


@pytest.mark.parametrize("body", [b"{}", b'{"name": "acme/app"}', b'{"name": "a", "tags": null}'])
async def test_an_empty_list_may_be_left_out(server: HostileServer, body: bytes) -> None:
    server.expect("GET", f"{LIST}?n=2", Reply(200, body))
    assert await asking(server, all_tags) == []


# --- logins ------------------------------------------------------------------------------


async def catalog_of(repository: Repository) -> list[str]:
    return [name async for page in tags.repositories(repository.client) for name in page]


def shows_less_to_strangers(server: HostileServer, *, challenge: str | None) -> None:
    """A registry whose catalog is 200 for everybody, and longer with the login."""

    def listing(seen: Seen) -> Reply:
        names = ["public/a", "public/b"]
        if seen.headers.get("authorization") in {BASIC, "Bearer t"}:
            names += ["private/c", "private/d"]
        return page(*names, key="repositories")

    def api(seen: Seen) -> Reply:
        if challenge and "authorization" not in seen.headers:
            return Reply(401, headers={"WWW-Authenticate": challenge})
        return Reply(200)

    server.follow(CATALOG, listing)
    server.follow("/v2/", api)
    token = b'{"token": "t"}'
    server.follow(
        "/token",
        lambda seen: Reply(200 if seen.headers.get("authorization") == BASIC else 401, token),
    )


@pytest.mark.parametrize("kind", ["basic", "bearer", "silent"])
async def test_a_catalog_is_asked_with_the_login_from_the_first_request_on(
    server: HostileServer, kind: str
) -> None:
    challenge = {
        "basic": 'Basic realm="x"',
        "bearer": f'Bearer realm="{server.base}/token",service="s"',
        "silent": None,
    }[kind]
    shows_less_to_strangers(server, challenge=challenge)

    async def twice(repository: Repository) -> list[list[str]]:
        return [await catalog_of(repository) for _ in range(2)]

    whole = ["public/a", "public/b", "private/c", "private/d"]
    assert await asking(server, twice, login=LOGIN) == [whole, whole]
    lists = [seen for seen in server.seen if seen.target.startswith(CATALOG)]
    assert len(lists) == 2
    assert all("authorization" in seen.headers for seen in lists)
    # The way to log in is learned once.
    assert len([seen for seen in server.seen if seen.target == "/v2/"]) == 1


async def test_without_a_login_a_list_is_one_request(server: HostileServer) -> None:
    shows_less_to_strangers(server, challenge='Basic realm="x"')
    assert await asking(server, catalog_of) == ["public/a", "public/b"]
    assert len(server.seen) == 1
