"""A migration's report: its numbers, and that nothing foreign in it can do harm."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
import xml.dom.minidom
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest

from transship.model.jobs import State
from transship.model.migration.record import MigrationRecord
from transship.model.migration.request import Mode
from transship.model.migration.totals import ByteTotals, ImageTotals
from transship.model.records import ErrorInfo
from transship.report import Image, Report
from transship.report.charts import WIDTH, Line, Part, bars, over_time, whole
from transship.report.render import Format, render
from transship.report.table import cell

BEGIN = datetime(2026, 11, 24, 12, tzinfo=UTC)
MIGRATION = "01m85m41pps2b5h4ymg1"

#: What a registry, a tag's owner or an error may try.
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</title></svg></style><script>",
    "<!--", "]]>", "&lt;b&gt;", "javascript:alert(1)",
    "\x1b[2J\x07\x00", "line\r\nbreak", "\u202egnp.exe",
    "=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1+1",
]  # fmt: skip


def image(number: int = 1, **changes: object) -> Image:
    values: dict[str, object] = {
        "job": f"job{number}",
        "state": State.SUCCEEDED,
        "skipped": False,
        "source": f"hub.example.com/cat@{number}",
        "target": f"r.example.com/cat:{number}",
        "tags": (f"v{number}",),
        "digest": None,
        "attempts": 1,
        "bytes_planned": 100,
        "bytes_moved": 50,
        "bytes_mounted": 30,
        "bytes_present": 20,
        "started_at": BEGIN,
        "finished_at": BEGIN + timedelta(seconds=number),
        "error_code": None,
        "error_message": None,
        "retryable": False,
        "warnings": (),
    }
    return Image(**(values | changes))  # type: ignore[arg-type]


def failure(number: int, code: str, message: str = "no") -> Image:
    return image(
        number, state=State.FAILED, error_code=code, error_message=message,
        bytes_moved=0, bytes_mounted=0, bytes_present=0,
    )  # fmt: skip


def report(*images: Image, name: str = "hub-to-prod", **changes: object) -> Report:
    failed = sum(one.state is State.FAILED for one in images)
    values: dict[str, object] = {
        "id": MIGRATION,
        "name": name,
        "mode": Mode.RUN,
        "state": State.FAILED if failed else State.SUCCEEDED,
        "planned": True,
        "images": ImageTotals.of(succeeded=len(images) - failed, failed=failed, skipped=5),
        "bytes": ByteTotals(planned=100 * len(images), moved=50, mounted=30, present=20),
        "created_at": BEGIN,
        "finished_at": BEGIN + timedelta(seconds=60),
        "submitted_by": "ci",
    }
    record = MigrationRecord.model_validate(values | changes)
    return Report(record, images, made_at=BEGIN + timedelta(seconds=90))


def hostile(text: str) -> Report:
    """A report in which every text is foreign."""
    bad = image(
        2, state=State.FAILED, job=text, source=text, target=text, tags=(text,), digest=text,
        error_code=text, error_message=text, warnings=(text,),
    )  # fmt: skip
    return report(
        image(1, target=text, source=text), bad, name=text, id=text, submitted_by=text,
        warnings=[text], failures=[text],
        error=ErrorInfo(code=text, message=text, retryable=False),
    )  # fmt: skip


def test_progress_begins_with_the_submit_and_ends_with_all_that_ended() -> None:
    moments = report(image(1), image(3), image(2)).moments()

    assert [(m.seconds, m.images, m.bytes) for m in moments] == [
        (0.0, 0, 0), (1.0, 6, 100), (2.0, 7, 200), (3.0, 8, 300), (60.0, 8, 300),
    ]  # fmt: skip


def test_progress_of_many_images_has_few_points_and_the_same_end() -> None:
    moments = report(*(image(number) for number in range(1, 5001))).moments(most=200)

    assert len(moments) <= 220
    assert (moments[-1].images, moments[-1].bytes) == (5005, 500_000)
    assert [m.seconds for m in moments] == sorted(m.seconds for m in moments)


def test_failures_are_counted_by_their_cause_the_most_frequent_first() -> None:
    found = report(
        failure(1, "denied", "first"), failure(2, "stalled"), failure(3, "denied", "second")
    ).causes

    assert [(cause.code, cause.images, cause.example) for cause in found] == [
        ("denied", 2, "first"), ("stalled", 1, "no"),
    ]  # fmt: skip


@pytest.mark.parametrize("form", ["text", "html"])
def test_warnings_of_single_images_are_named_with_the_image(form: Format) -> None:
    found = report(image(1, warnings=("a foreign layer was left out",)), warnings=["one tag moved"])

    assert found.warnings == [
        "one tag moved",
        "r.example.com/cat:1: a foreign layer was left out",
    ]
    rendered = render(found, form)
    assert all(warning in rendered for warning in found.warnings)


def test_warnings_in_a_text_are_bounded() -> None:
    found = report(*(image(number, warnings=("odd",)) for number in range(1, 61)))

    lines = render(found, "text").splitlines()
    assert sum(line.startswith("warning: ") for line in lines) == 50
    assert lines[-1] == "and 10 more: --format json names all"


def test_the_slowest_images_are_those_that_took_longest() -> None:
    made = report(*(image(number) for number in range(1, 30)), image(99, finished_at=None))

    assert [one.seconds for one in made.slowest] == list(range(29, 19, -1))


def test_a_report_of_nothing_is_a_report() -> None:
    empty = report(bytes=ByteTotals(), images=ImageTotals(), finished_at=None, state="queued")

    for text in (
        render(empty, "text"),
        render(empty, "csv"),
        empty.to_json(),
        render(empty, "html"),
    ):
        assert text
    assert "No image ended yet." in render(empty, "html")


def test_the_text_names_totals_causes_and_failures() -> None:
    text = render(report(image(1), failure(2, "denied", "no right")), "text")

    assert "7 planned: 1 succeeded, 5 skipped, 1 failed" in text
    assert "50 B (30 B mounted, 20 B there already)" in text
    assert re.search(r"^denied +1 +no right$", text, re.M)
    assert re.search(r"^job2 +r\.example\.com/cat:2 +denied: no right$", text, re.M)


def test_json_holds_all_there_is() -> None:
    found = json.loads(report(image(1), failure(2, "denied")).to_json())

    assert found["migration"]["id"] == MIGRATION
    assert found["causes"] == [{"code": "denied", "images": 1, "example": "no"}]
    assert found["images"][0]["seconds"] == 1.0
    assert found["images"][0]["started_at"] == "2026-11-24T12:00:00Z"


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_no_text_of_a_report_holds_a_control_character(text: str) -> None:
    made = hostile(text)

    for shown in (
        render(made, "text"),
        render(made, "csv").replace("\r\n", "\n"),
        render(made, "html"),
    ):
        assert [c for c in shown if not c.isprintable() and c != "\n"] == []
    made.to_json().encode("ascii")


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_no_cell_is_a_formula(text: str) -> None:
    made = render(hostile(text), "csv")

    for line in csv.reader(io.StringIO(made)):
        assert [one for one in line if one.strip().startswith(tuple("=+-@＝＋－＠"))] == []


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("=1", "'=1"), ("\t=1", "'\\t=1"), (" -1", "' -1"), ("a=1", "a=1"), (None, ""),
        (True, "true"), (-1, "-1"), (1.5, "1.5"), ("", ""),
    ],
)  # fmt: skip
def test_a_cell_is_text_unless_it_is_a_number(value: object, written: str) -> None:
    assert cell(value) == written


class Page(HTMLParser):
    """Reads a page as a browser does, as far as elements and attributes go."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.comments: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)


def shape(text: str) -> list[tuple[str, list[str]]]:
    """Elements and the names of their attributes, in their order."""
    return [(tag, sorted(found)) for tag, found in Page(text).elements]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_no_value_becomes_an_element_or_an_attribute(text: str) -> None:
    tame = shape(render(hostile("x" * 40), "html"))

    assert shape(render(hostile(text), "html")) == tame
    assert Page(render(hostile(text), "html")).comments == []


def test_a_page_runs_nothing_and_loads_nothing() -> None:
    page = Page(render(report(image(1), failure(2, "denied")), "html"))

    names = {tag for tag, _ in page.elements}
    assert names.isdisjoint({"script", "link", "img", "iframe", "object", "form", "base", "a"})
    attributes = {name for _, found in page.elements for name in found}
    assert not {name for name in attributes if name.startswith("on")}
    assert attributes.isdisjoint({"src", "href", "style", "action", "xlink:href"})


def test_the_policy_allows_the_pages_one_style_and_nothing_else() -> None:
    text = render(report(image(1)), "html")
    (policy,) = [
        found["content"] or ""
        for tag, found in Page(text).elements
        if tag == "meta" and found.get("http-equiv") == "Content-Security-Policy"
    ]

    (style,) = re.findall(r"<style>(.*?)</style>", text, re.S)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.split("; ") == [
        "default-src 'none'",
        f"style-src 'sha256-{digest}'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    # A browser reads the policy before what it is about.
    assert text.index("Content-Security-Policy") < text.index("<style>")


def test_a_page_shows_its_numbers() -> None:
    text = "".join(Page(render(report(image(1), failure(2, "denied")), "html")).texts)

    for words in ("hub-to-prod", "failed", MIGRATION, "of 7 images there", "r.example.com/cat:2"):
        assert words in text


def test_a_page_of_many_images_stays_small_enough_to_be_opened() -> None:
    many = report(*(failure(number, "denied", "m" * 300) for number in range(20_000)))
    page = render(many, "html")

    assert len(page) < 3_000_000
    assert "The first 2,000 of 20,000" in page
    assert render(many, "csv").count("\n") == 20_001


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_charts_are_well_formed_whatever_they_show(text: str) -> None:
    parts = [Part("moved", text, 2.0, text), Part("left", text, 1.0, text)]
    charts = [
        over_time([0.0, 1.0], [Line("moved", [0.0, 1.0])], text),
        whole(parts, text),
        bars(parts, text),
    ]

    for chart in charts:
        xml.dom.minidom.parseString(chart)


@pytest.mark.parametrize("values", [[], [0.0], [0.0, 0.0], [1e18, 1e-9]])
def test_charts_stay_in_their_frame(values: list[float]) -> None:
    parts = [Part("moved", "a", value, "b") for value in values]

    for chart in (whole(parts, "t"), bars(parts, "t")):
        widths = [float(found) for found in re.findall(r'width="([\d.]+)"', chart)]
        assert all(0 <= width <= WIDTH for width in widths)
    over_time([0.0] * len(values), [Line("moved", [0.5] * len(values))] if values else [], "t")
