"""What the documents say can be done: links lead somewhere, code compiles, commands exist."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from ruamel.yaml import YAML

from tests.support.repository import ROOT
from transship.cli import cli
from transship.errors import PushError
from transship.model.migration.plan import Action, PlanRow
from transship.model.migration.selection import TagSelection
from transship.model.migration.specification import Rule, Source, Spec, Target
from transship.model.references import ImageReference, RegistryUri
from transship_config import errors
from transship_worker.catalog.file import Document
from transship_worker.catalog.model import build, option_names
from transship_worker.flavors import BUILT_IN, built_in

PAGES = sorted([ROOT / "README.md", ROOT / "SECURITY.md", *(ROOT / "docs").glob("*.md")])
ids = [str(page.relative_to(ROOT)) for page in PAGES]
every_page = pytest.mark.parametrize("page", PAGES, ids=ids)

#: The hosts that a link may lead to; examples stay on names that are reserved for them.
HOSTS = re.compile(
    r"(.+\.)?example\.(com|org)|127\.0\.0\.1(:\d+)?|docs\.docker\.com|docs\.aws\.amazon\.com"
    r"|cloud\.google\.com|learn\.microsoft\.com|redis\.io|github\.com|keepachangelog\.com"
)
#: The folders of a machine that a document may name.
FOLDERS = {"dev", "etc", "opt", "run", "srv", "usr", "var"}

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<kind>[a-z]*)\n(?P<text>.*?)^(?P=indent)```$", re.M | re.S
)
_LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#+ (?P<text>.+)$", re.M)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    kind: str
    text: str
    line: int

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(*kinds: str) -> list[Block]:
    """The blocks of these kinds in all pages."""
    found = []
    for page in PAGES:
        text = page.read_text("utf-8")
        for match in _FENCE.finditer(text):
            if match["kind"] in kinds:
                line = text.count("\n", 0, match.start()) + 2
                indent = len(match["indent"])
                inner = "\n".join(row[indent:] for row in match["text"].split("\n"))
                found.append(Block(page, match["kind"], inner, line))
    return found


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text("utf-8"))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, made as code hosts make them."""
    bare = (re.sub(r"[`*]|\]\([^)]*\)|\[", "", m["text"]) for m in _HEADING.finditer(prose(page)))
    return {re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-") for text in bare}


@every_page
def test_every_link_leads_somewhere(page: Path) -> None:
    wrong = []
    for match in _LINK.finditer(prose(page)):
        target, _, anchor = match["target"].partition("#")
        if "://" in target:
            continue
        place = (page.parent / target).resolve() if target else page
        if not place.exists() or (anchor and anchor not in anchors(place)):
            wrong.append(match["target"])
    assert wrong == []


@every_page
def test_addresses_are_examples_or_a_vendors_documentation(page: Path) -> None:
    found = re.findall(r"https?://([^/\s`)\"'>]+)", page.read_text("utf-8"))
    assert [host for host in found if not HOSTS.fullmatch(host)] == []


@every_page
def test_no_path_of_one_machine_is_named(page: Path) -> None:
    text = re.sub(r"https?://\S+", "", page.read_text("utf-8"))
    found = re.findall(r"(?:^|[\s\"'`(=:])/([a-z]+)/[a-z]", text, re.M)
    assert set(found) - FOLDERS - {"v"} == set()


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_compiles(block: Block) -> None:
    compile(block.text, str(block), "exec")


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_yaml_parses_and_a_catalogue_can_be_used(block: Block) -> None:
    yaml = YAML(typ="safe", pure=True)
    documents = [found for found in yaml.load_all(block.text) if found is not None]
    assert documents
    for found in documents:
        # A custom flavor of an example is not installed here; test_custom_flavor_docs has it.
        if isinstance(found, dict) and "registries" in found and "flavors" not in found:
            build(Document.parse(block.page, block.text))
        if isinstance(found, dict) and "rules" in found:
            Spec.parse(found)


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_json_parses_and_a_row_of_a_plan_can_be_run(block: Block) -> None:
    if "action" in json.loads(block.text):
        PlanRow.parse(block.text)


def test_every_key_of_a_specification_is_described() -> None:
    text = (ROOT / "docs/migrations.md").read_text("utf-8")
    keys = [f"from.{name}" for name in Source.model_fields]
    keys += [f"to.{name}" for name in Target.model_fields]
    keys += [f"tags.{name}" for name in TagSelection.model_fields]
    inner = {"source", "target", "tags"}
    keys += [*Spec.model_fields, *(set(Rule.model_fields) - inner)]
    assert [key for key in keys if f"| `{key}` |" not in text] == []


def test_every_action_of_a_plan_is_described() -> None:
    text = (ROOT / "docs/migrations.md").read_text("utf-8")
    assert [action for action in Action if f"| `{action}` |" not in text] == []


def command_lines(text: str) -> Iterator[list[str]]:
    """The words of each ``transship`` command of a shell's text or transcript."""
    joined = re.sub(r"\\\n\s*", " ", text)
    prompt = any(line.startswith("$ ") for line in joined.splitlines())
    for line in joined.splitlines():
        if prompt and not line.startswith("$ "):
            continue
        line = re.sub(
            r"\s#\s.*$",
            "",
            line.strip().removeprefix("$ ").removeprefix("- ").removeprefix("run: "),
        )
        # What a substitution runs is a command of its own, and one word of the command around it.
        inner = re.findall(r"\$\(([^()]*)\)", line)
        for part in [re.sub(r"\$\([^()]*\)", "SUBSTITUTED", line), *inner]:
            for command in re.split(r"&&|\|\||[|;&<>]", re.sub(r"\s\d>(&\d)?", " >", part)):
                # What YAML quotes may be cut in two above.
                whole = all(command.count(quote) % 2 == 0 for quote in "'\"")
                words = shlex.split(command) if whole else command.split()
                while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                    words.pop(0)
                if words and words[0] in {"transship", ".venv/bin/transship"}:
                    yield words


def parse(words: list[str]) -> None:
    """Let click read a command line as it would, without running it."""
    command: click.Command = cli
    arguments, name, context = words[1:], words[0], None
    while True:
        context = command.make_context(name, list(arguments), parent=context)
        if not isinstance(command, click.Group):
            return
        rest = [*context._protected_args, *context.args]
        found, inner, arguments = command.resolve_command(context, rest)
        assert inner is not None, f"{words}: no command {rest[:1]}"
        name, command = str(found), inner


def problems(words: list[str], *, whole: bool) -> str | None:
    """What click finds wrong; in prose (not ``whole``) a command may be named without arguments."""
    try:
        parse(words)
    except click.exceptions.Exit:
        return None
    except (click.MissingParameter, click.exceptions.NoArgsIsHelpError) as error:
        return f"{words}: {error.format_message()}" if whole else None
    except (click.UsageError, errors.UsageError) as error:
        return f"{words}: {error}"
    return None


@pytest.mark.parametrize("block", blocks("sh", "console", "yaml", ""), ids=str)
def test_every_command_line_is_one_that_click_takes(block: Block) -> None:
    found = [problems(words, whole=True) for words in command_lines(block.text)]
    assert [problem for problem in found if problem] == []


@every_page
def test_every_command_in_the_prose_exists(page: Path) -> None:
    spans = [re.sub(r"\s+", " ", span) for span in re.findall(r"`(transship [^`]+)`", prose(page))]
    found = [problems(words, whole=False) for span in spans for words in command_lines(span)]
    assert [problem for problem in found if problem] == []


def test_a_wrong_option_would_be_seen() -> None:
    text = "$ transship push x:1 --registy prod\n$ transship regstry list"

    assert [problems(words, whole=True) is None for words in command_lines(text)] == [False, False]


def error_codes() -> set[str]:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    return {k.code for k in kinds if issubclass(k, PushError) and k is not PushError}


def test_every_code_of_a_failed_push_is_explained() -> None:
    text = (ROOT / "docs/operations.md").read_text("utf-8")
    rows = set(re.findall(r"^\| `([a-z_]+)` \|", text, re.M))
    # Said by the ledger's scripts, or by an unexpected error; two never reach a record.
    others = {"push_failed", "worker_lost", "expired", "superseded"}
    assert rows >= (error_codes() | others) - {"lease_lost", "handed_back"}


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_every_option_of_a_flavor_is_described(name: str) -> None:
    text = (ROOT / "docs/registries.md").read_text("utf-8")
    assert [o for o in option_names(built_in(name)) if f"| `{o}` |" not in text] == []


def test_the_examples_of_the_flavors_are_right() -> None:
    # A folder's is a path.
    for name in set(BUILT_IN) - {"layout"}:
        RegistryUri.parse(built_in(name).URI_EXAMPLE)


def test_every_image_in_a_command_is_a_reference() -> None:
    for block in blocks("sh", "console"):
        for words in command_lines(block.text):
            image = words[2] if words[1] == "push" else ""
            if image and not re.search(r"^-|[$]|SUBSTITUTED", image):
                ImageReference.parse(image)
