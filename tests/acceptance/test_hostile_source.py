"""What a registry plants (escape sequences, formulas, markup) is shown to nobody as that."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.support.images.registry_client import EMPTY_DIGEST, GOOD, errors
from tests.support.scripted_servers.hostile import HostileServer, Reply, Seen
from tests.support.servers.registry import Registry
from tests.support.workers.copy_site import CopySite, component, rule, spec
from transship.cli import main
from transship.report.page import POLICY
from transship.report.table import _FORMULA

pytestmark = [pytest.mark.redis, pytest.mark.registry]

#: Clears the screen in two ways, turns the text around, begins a line, a formula and a script.
PLANTED = (
    "\x1b[2J\x9b31m\u202e\r\n=cmd|' /C calc'!A0 2026-01-01T00:00:00Z INFO all is well\r\n"
    "<script>alert(1)</script><img src=x onerror=alert(1)>\x00\x7f"
)
#: What of it everybody may see.
SEEN = "alert(1)"
FORMULA = "=HYPERLINK(1)<script>alert(1)</script>"


def answer(seen: Seen) -> Reply:
    """An image whose blob is refused; a list of tags that are none; a page for an error."""
    if seen.target == "/v2/":
        return Reply(200, b"{}")
    if "/good/" in seen.target and "/tags/" in seen.target:
        return Reply(200, b'{"tags": ["1"]}')
    if "/good/manifests/" in seen.target:
        return GOOD
    if EMPTY_DIGEST in seen.target:
        return Reply(403, errors("DENIED", PLANTED, detail=PLANTED))
    if "/tags/" in seen.target and "/evil/" in seen.target:
        return Reply(200, json.dumps({"tags": [f"\x1b[2J\r\n{FORMULA}"]}).encode())
    return Reply(404, f"<html><title>{PLANTED}</title>".encode(), {"X-Planted": "\x1b[2J"})


class Page(HTMLParser):
    """The elements, attributes and words of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: dict[str, set[str]] = {}
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, set()).add(value or "")

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture
def site(tmp_path: Path, redis_url: str) -> Iterator[CopySite]:
    with HostileServer() as server, Registry() as target:
        server.follow("/v2/", answer)
        found = CopySite(tmp_path / "site", redis_url)
        found.write_catalog(
            {
                "old": component(server.address, endpoint=server.base),
                "new": component(target.address),
            }
        )
        yield found
        found.close()


def printable(text: str) -> str:
    """The text, of which every line can be shown and does nothing to a terminal."""
    bad = [line for line in text.split("\n") if not line.isprintable()]
    assert bad == []
    return text


Said = Callable[..., str]


@pytest.fixture
def said(
    site: CopySite, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Said:
    """All that a command writes; in this process, because there are many."""
    for name, value in site.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(site.folder)

    def run(*arguments: str) -> str:
        capsys.readouterr()
        main(arguments)
        out, err = capsys.readouterr()
        return printable(out) + printable(err)

    return run


def test_nothing_that_a_hostile_source_plants_is_obeyed_anywhere(
    site: CopySite, said: Said
) -> None:
    workers = [site.start_copier(TRANSSHIP_LOG_FORMAT=form) for form in ("text", "json")]
    plan = spec(rule("old", "new", "good", "evil", "none"))
    (site.folder / "spec.json").write_text(json.dumps(plan))

    assert SEEN in said("migrate", "plan", "spec.json")
    said("migrate", "plan", "spec.json", "--json")
    assert SEEN in said("migrate", "run", "spec.json", "--wait")
    assert SEEN in said("migrate", "run", "spec.json", "--wait", "--json")
    uri = site.client.fleet().component("old").uri
    target = site.client.fleet().component("new").uri
    names = [f"{uri}/good:1", f"{target}/copied:1"]
    assert SEEN in said("copy", *names, "--wait")
    assert SEEN in said("copy", *names, "--wait", "--json")
    labelled = site.client.copy(*names, labels={"by": FORMULA})
    assert SEEN in said("status", labelled.id)

    for command in ("jobs", "doctor", "workers"):
        said(command)
        said(command, "--json")
    said("migrate", "list")
    for record in site.client.jobs():
        for arguments in (("status",), ("watch",), ("watch", "--json"), ("status", "--json")):
            said(*arguments, record.id)
    check_reports(site, said)
    logs = [printable(worker.log_text()) for worker in workers]
    assert any(SEEN in log for log in logs)
    # Nothing that was planted is an event of its own.
    assert not any(line.startswith("2026-01-01") for log in logs for line in log.splitlines())


def check_reports(site: CopySite, said: Said) -> None:
    """Every report of every migration, in every form."""
    migrations = list(site.client.migrations())
    assert migrations
    seen = 0
    for record in migrations:
        out = site.folder / "report"
        forms: dict[str, str] = {}
        for form in ("text", "csv", "json", "html"):
            said("migrate", "report", record.id, "--format", form, "-o", str(out))
            # As it was written: a program may take a lone carriage return for a line's end.
            forms[form] = out.read_bytes().decode()
        for form, text in forms.items():
            printable(text.replace("\r\n", "\n") if form == "csv" else text)
        check_csv(forms["csv"])
        check_html(forms["html"])
        found: dict[str, Any] = json.loads(forms["json"])
        seen += sum(SEEN in str(image["error_message"]) for image in found["images"])
        assert all(SEEN in forms[form] for form in forms) == (SEEN in forms["csv"])
    assert seen


def check_csv(text: str) -> None:
    for row in csv.reader(io.StringIO(text)):
        assert not [cell for cell in row if cell.strip().startswith(_FORMULA)]


def check_html(text: str) -> None:
    page = Page(text)
    forbidden = {"script", "img", "iframe", "object", "form", "base", "a", "link"}
    assert not page.elements & forbidden
    assert not [name for name in page.attributes if name.startswith("on")]
    assert POLICY in page.attributes["content"]
