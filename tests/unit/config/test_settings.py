"""Settings: read once, refused in one line, documented one by one."""

from __future__ import annotations

import pytest

from tests.support.repository import ROOT
from transship_config.errors import InvalidSettings
from transship_config.settings import Settings, settings_with_url, variable

DOCUMENT = ROOT / "docs" / "settings.md"


def test_an_empty_variable_counts_as_unset() -> None:
    assert Settings.from_environment({"TRANSSHIP_LEASE": ""}).lease == 60


def test_variables_of_others_are_left_alone() -> None:
    assert Settings.from_environment({"LEASE": "x", "PATH": "/bin"}) == Settings.from_environment(
        {}
    )


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"TRANSSHIP_LEASE": "soon"}, "TRANSSHIP_LEASE='soon': .*valid number"),
        ({"TRANSSHIP_PUSHES": "0"}, "TRANSSHIP_PUSHES='0': .*greater than or equal to 1"),
        (
            {"TRANSSHIP_LEESE": "5"},
            "not a setting; did you mean 'TRANSSHIP_LEASE'",
        ),
        ({"TRANSSHIP_REDIS_URL": "redis://h/0"}, "did you mean 'TRANSSHIP_URL'"),
        ({"TRANSHIP_URL": "redis://h/0"}, "TRANSHIP_URL is not .* mean 'TRANSSHIP_URL'"),
        ({"transship_url": "redis://h/0"}, "transship_url is not .* mean 'TRANSSHIP_URL'"),
        ({"TRANSSHIP_NAMESPACE": "a b"}, r"TRANSSHIP_NAMESPACE='a b': string .*A-Za-z0-9"),
        ({"TRANSSHIP_URL": "REDIS://h/0"}, "REDIS:// is not supported"),
        ({"TRANSSHIP_URL": " redis://h/0"}, "has a space"),
        ({"TRANSSHIP_URL": "redis://h/0#x"}, "has a space, a control character or a '#'"),
        ({"TRANSSHIP_URL": "redis://héé/0"}, "no host name has"),
        ({"TRANSSHIP_URL": "redis://h,i/0"}, "no host name has"),
        (
            {"TRANSSHIP_URL": "amqp://x"},
            "must be redis://host:port/db, .* or sentinel://.*; amqp:// is not supported$",
        ),
        ({"TRANSSHIP_URL": "x:6379"}, "must be redis://host:port/db, .*SERVICE/0$"),
        ({"TRANSSHIP_URL": "redis://x:port"}, "bad host or port"),
        ({"TRANSSHIP_URL": "redis://x/y"}, "database number"),
        ({"TRANSSHIP_URL": "redis://a.b:c@x"}, "'a.b' cannot be used"),
    ],
)
def test_a_bad_value_is_refused_in_one_line(environment: dict[str, str], says: str) -> None:
    with pytest.raises(InvalidSettings, match=says) as caught:
        Settings.from_environment(environment)

    assert "\n" not in str(caught.value)


def test_a_password_in_the_url_is_never_shown() -> None:
    url = "redis://ci:hunter2@redis.example.com:6379/0"
    settings = Settings.from_environment({"TRANSSHIP_URL": url})

    assert "hunter2" not in repr(settings)
    assert "hunter2" not in str(settings.model_dump())
    for bad in ("redis://ci:hunter2@x/notanumber", "http://ci:hunter2@x", "redis://:hunter2@:0"):
        with pytest.raises(InvalidSettings) as caught:
            settings_with_url(settings, bad)
        assert "hunter2" not in str(caught.value)


def test_the_account_is_the_user_in_the_url() -> None:
    def account(url: str) -> str:
        return settings_with_url(Settings.from_environment({}), url).account

    assert account("redis://ci:x@h/0") == "ci"
    assert account("redis://:x@h/0") == "default"
    assert account("redis://h/0") == "default"


def test_the_document_lists_every_setting_with_its_default() -> None:
    rows = {
        line.split("|")[1].strip(" `"): line.split("|")
        for line in DOCUMENT.read_text().splitlines()
        if line.startswith("| `TRANSSHIP_")
    }

    assert set(rows) == {variable(field) for field in Settings.model_fields}
    for field, info in Settings.model_fields.items():
        default = "" if field == "url" else str(info.default)
        assert rows[variable(field)][2].strip(" `") == default, field
        assert rows[variable(field)][3].strip() == info.description, field
