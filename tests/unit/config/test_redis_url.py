"""Which Redis URLs can be used, and what they say."""

from __future__ import annotations

import re

import pytest

from transship_config.errors import InvalidSettings
from transship_config.redis_url import RedisUrl, check_url, parse_url

_CHECKED = {"ssl_cert_reqs": "required", "ssl_check_hostname": True}


@pytest.mark.parametrize(
    ("url", "parsed"),
    [
        ("redis://h", RedisUrl("redis", (("h", 6379),), "", 0, "", "", {})),
        ("redis://h:1/2", RedisUrl("redis", (("h", 1),), "", 2, "", "", {})),
        ("redis://[::1]:7/0", RedisUrl("redis", (("::1", 7),), "", 0, "", "", {})),
        ("redis://team-a:x@h/0", RedisUrl("redis", (("h", 6379),), "", 0, "team-a", "x", {})),
        ("rediss://ci:a%40b@h/0", RedisUrl("rediss", (("h", 6379),), "", 0, "ci", "a@b", _CHECKED)),
        (
            "sentinel://a:26380,b,[fe80::1%eth0]:7/mymaster/3",
            RedisUrl(
                "sentinel",
                (("a", 26380), ("b", 26379), ("fe80::1%eth0", 7)),
                *("mymaster", 3, "", "", {}),
            ),
        ),
        (
            "sentinel://ci:p@a/m?sentinel_username=look&sentinel_password=a+b%26c",
            RedisUrl("sentinel", (("a", 26379),), "m", 0, "ci", "p", {}, "look", "a+b&c"),
        ),
        (
            "sentinel://a/m/0?ssl=true&sentinel_ssl=false",
            RedisUrl("sentinel", (("a", 26379),), "m", 0, "", "", _CHECKED),
        ),
        (
            "sentinel://a/m/0?ssl=true",
            RedisUrl("sentinel", (("a", 26379),), "m", 0, "", "", _CHECKED, "", "", _CHECKED),
        ),
        (
            "sentinel://a/m/0?sentinel_ssl=true",
            RedisUrl("sentinel", (("a", 26379),), "m", 0, "", "", {}, "", "", _CHECKED),
        ),
    ],
)
def test_a_url_says_where_redis_is(url: str, parsed: RedisUrl) -> None:
    assert parse_url(url) == parsed


@pytest.mark.parametrize(
    ("url", "mistake"),
    [
        ("sentinel://a:1", "must end with the service that the sentinels watch"),
        ("sentinel://a:1/", "must end with the service"),
        ("sentinel://a:1/m/x", "must end with the service"),
        ("sentinel://a:1/m/0/1", "must end with the service"),
        ("sentinel://a:1/m y/0", "has a space"),
        ("sentinel://a:1/m*/0", "must end with the service"),
        ("sentinel:///m/0", "bad host or port"),
        ("sentinel://a:1,/m/0", "bad host or port"),
        ("sentinel://a:0/m/0", "bad host or port"),
        ("sentinel://a:70000/m/0", "bad host or port"),
        ("sentinel://::1/m/0", "bad host or port"),
        ("sentinel://[::1/m/0", "bad host or port"),
        ("sentinel://a;b/m/0", "no host name has"),
        ("sentinel://a:1,a:1/m/0", "names a sentinel twice"),
        ("sentinel://" + ",".join(f"h{n}" for n in range(33)) + "/m/0", "more than 32 sentinels"),
        ("sentinel://a/m/0?ssl=yes", "ssl must be true or false"),
        ("sentinel://a/m/0?master_name=m", "an unknown option; there are ssl_cert_reqs"),
        ("sentinel://a/m/0?ssl_ca_certs=/x", "options of TLS without ssl=true or sentinel_ssl"),
        ("sentinel://a/m/0?sentinel_username=x", "sentinel_username without sentinel_password"),
        ("sentinel://a/m/0?sentinel_password=", "sentinel_password must be a password"),
        ("sentinel://a/m/0?ssl=true&ssl_certfile=/x", "ssl_certfile and ssl_keyfile go together"),
        ("redis://a/0?ssl=true", "for rediss:// only"),
        ("rediss://a/0?sentinel_password=x", "an unknown option"),
        ("redis://a,b/0", "no host name has"),
        (
            "redis://-a:x@h/0",
            "account '-a' cannot be used: .*up to 32 letters, digits, '_' and '-'",
        ),
        ("redis://a%2A:x@h/0", "account 'a\\*' cannot be used"),
        ("redis+sentinel://a/m/0", re.escape("redis+sentinel:// is not supported")),
    ],
)
def test_a_url_that_cannot_work_is_refused_in_one_line(url: str, mistake: str) -> None:
    with pytest.raises(InvalidSettings, match=mistake) as refused:
        check_url(url)
    assert "\n" not in refused.value.message


def test_no_password_is_in_a_url_as_it_is_shown() -> None:
    parsed = parse_url("sentinel://ci:planted@a,[::1]:7/m/0?sentinel_password=planted")
    assert parsed.shown == "sentinel://a:26379,[::1]:7/m/0"
    assert "planted" not in repr(parsed)
