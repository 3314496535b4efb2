"""What is fuzzed: each target reads bytes as a stranger's, and may end in its typed errors only.

A target raises nothing but what its parser declares. What it reads is used a little, too: it is
written and read again, and shown.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pydantic
from yarl import URL

from tests.fuzz.rights import rights
from transship.errors import AnswerMalformed, CatalogError, InvalidReference, PushError, UnknownJob
from transship.model.jobs import JobId
from transship.model.migration.expression import Expression
from transship.model.migration.mistakes import SpecError
from transship.model.migration.names import RepositoryPattern, Template, is_repository, is_tag
from transship.model.migration.plan import PlanRow
from transship.model.migration.specification import Spec
from transship.model.migration.versions import VersionRange, order
from transship.model.references import ImageReference, RegistryUri
from transship.model.request_fields import request_problem
from transship.model.requests import MIGRATION_HEAD, glimpse, newer, parse_request
from transship_config.errors import TransshipError
from transship_worker.catalog.file import Document
from transship_worker.catalog.model import build
from transship_worker.layouts.archive import _read as read_archive
from transship_worker.layouts.index import Index
from transship_worker.oci import headers
from transship_worker.oci.challenge import merged, parse_challenges, parse_scopes
from transship_worker.oci.descriptors import MANIFEST_TYPES, parse_manifest
from transship_worker.oci.endpoint import Endpoint
from transship_worker.oci.errors import Speaker, error_of, refusal
from transship_worker.oci.pool import ClientPool
from transship_worker.transports.engine.events import PushStream
from transship_worker.transports.engine.push_errors import Spoken, translate

#: The longest input. Unit: bytes.
LONGEST: Final = 1_024

#: A request that is made of an input. Unit: bytes.
_LONGEST_STORED: Final = 16 * 1024
#: Processor time of its parsing, on a machine that is shared, and with what the fuzzer counts;
#: 50 ms are promised without that. Unit: s.
_LONGEST_PARSE_S: Final = 1.0
_HEADS: Final = tuple(
    head.encode()
    for head in (
        *("", "{", '{"image":"a.b/c:1","registry":"p",', '{"kind":"copy","more_tags":['),
        MIGRATION_HEAD + ',"version":1,"mode":"run","name":"x","spec":{"version":1,"rules":[',
        MIGRATION_HEAD
        + ',"version":1,"mode":"run","name":"x","spec":{"version":1,"name":"x","rules":[{"from":'
        '{"registry":"a","repositories":["a"]},"to":{"registry":"b"},"tags":{"include":[',
    )
)

_CATALOG: Final = Path("/nowhere/catalog.yaml")
_IMAGE: Final = ImageReference.parse("registry.example.com/ml/train:1")
_ENDPOINTS: Final = (
    Endpoint("registry.example.com"),
    Endpoint("registry.example.com", endpoint="http://registry:5000"),
    Endpoint("docker.io"),
)
_TYPES: Final = ("", "application/json", *MANIFEST_TYPES, "text/html; charset=x")


@dataclass(frozen=True, slots=True)
class Target:
    """Something that reads bytes."""

    run: Callable[[bytes], object]
    #: Its inputs are JSON (after a first byte, where it has one), so they are changed as values.
    is_json: bool = False
    #: Bytes before the JSON.
    head: int = 0
    longest: int = LONGEST
    #: Words that are tried.
    words: tuple[str, ...] = field(default=())


def _text(data: bytes) -> str:
    """Also texts with lone surrogates, which JSON can bring."""
    return data.decode("utf-8", "surrogateescape")


def _told(error: TransshipError) -> None:
    """What a person is shown: bounded lines that can be written and do nothing to a terminal."""
    for line in error.message.split("\n"):
        assert line.isprintable(), f"{line!a} is not printable"
    assert len(error.message) < 100_000, f"{len(error.message)} characters"


def _reference(data: bytes) -> None:
    text = _text(data)
    for kind in (ImageReference, RegistryUri):
        try:
            found = kind.parse(text)
        except InvalidReference as error:
            _told(error)
        else:
            assert kind.parse(str(found)) == found
            assert str(found).isascii()
    with suppress(UnknownJob):
        assert JobId.parse(text) == JobId.parse(JobId.parse(text))


def _catalog(data: bytes) -> None:
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        return
    document = Document(text="", data=_harmless(values), path=_CATALOG)
    try:
        found = build(document)
    except CatalogError as error:
        _told(error)
    else:
        for one in found.public():
            assert one.model_dump_json()
        assert repr(found)


def _harmless(values: Any) -> Any:
    """A catalogue names code; no module that is there is to be imported."""
    named = values.get("flavors") if isinstance(values, dict) else None
    if isinstance(named, list):
        values["flavors"] = [f"nowhere.{one}" if isinstance(one, str) else one for one in named]
    return values


def _yaml(data: bytes) -> None:
    document = Document.parse(_CATALOG, _text(data))
    document.data = _harmless(document.data)
    if not document.mistakes:
        try:
            Spec.parse(document.data)
        except SpecError as error:
            _told(error)
    try:
        build(document)
    except CatalogError as error:
        _told(error)


def _spec(data: bytes) -> None:
    try:
        found = Spec.from_json(data)
    except SpecError as error:
        _told(error)
        return
    assert Spec.from_json(found.to_json()) == found
    for rule in range(len(found.rules)):
        with suppress(SpecError):
            found.target_tag(rule, found.target_repository(rule, "acme/tools/cat"), "v1.20-rc1")


def _plan(data: bytes) -> None:
    try:
        row = PlanRow.parse(data)
    except SpecError as error:
        _told(error)
        return
    assert PlanRow.parse(row.to_json()) == row
    assert JobId.parse(row.id) == row.id


def _names(data: bytes) -> None:
    pattern, _, tried = _text(data[1:]).partition("\n")
    tried = tried[:12]
    kinds = (_pattern, _range, _expression, _tag_template, _repository_template)
    try:
        kinds[data[0] % len(kinds) if data else 0](pattern, tried)
    except ValueError as error:
        assert str(error).isprintable()
    assert order(tried) == order(tried)
    assert not is_tag(tried) or not tried.startswith(".")


def _pattern(text: str, tried: str) -> None:
    found = RepositoryPattern.parse(text)
    assert found.matches(tried) in {True, False}
    assert found.needs_catalogue or is_repository(text)


def _range(text: str, tried: str) -> None:
    found = VersionRange.parse(text)
    assert VersionRange.parse(str(found)).holds(tried) == found.holds(tried)


def _expression(text: str, tried: str) -> None:
    found = Expression.parse(text)
    # Of many repeats within repeats Python's own search does not come to an end.
    if is_tag(tried) and text.count("*") + text.count("+") + text.count("{") <= 3:
        assert found.found_in(tried) == bool(re.search(text, tried, re.ASCII))


def _tag_template(text: str, tried: str) -> None:
    assert str(Template.parse(text, "tag")) == text


def _repository_template(text: str, tried: str) -> None:
    found = Template.parse(text, "repository")
    with suppress(ValueError):
        assert is_repository(found.fill("a/b", "1"))


def _manifest(data: bytes) -> None:
    content_type = _TYPES[data[0] % len(_TYPES)] if data else ""
    try:
        found = parse_manifest(data[1:], what="acme/app:1", content_type=content_type)
    except PushError as error:
        _told(error)
        return
    for one in (*found.blobs, *found.children, found.descriptor):
        assert json.loads(json.dumps(one.as_json()))["digest"] == one.digest
        assert one.size >= 0
        assert str(one.platform) is not None
    again = parse_manifest(found.raw, what="", digest=found.digest, content_type=found.media_type)
    assert again == found


def _layout(data: bytes) -> None:
    try:
        found = Index.parse(data, "its index.json")
    except AnswerMalformed as error:
        _told(error)
        return
    assert found.described()
    assert Index.parse(found.dump(), "").entries == found.entries
    for tag in found.tags:
        assert is_tag(tag)
        with suppress(PushError):
            found.find(tag, "it")


def _refusal(data: bytes) -> None:
    status = 300 + (data[0] if data else 0)
    body = data[1:]
    said = {"Retry-After": body[:12].decode("latin-1")}
    speaker = Speaker("registry.example.com", None, ("a secret",))
    found = refusal("GET", URL("https://registry.example.com/v2/"), status, said, body, speaker)
    assert str(found).isprintable()
    error = error_of(found, speaker, "acme/app:1")
    _told(error)
    assert len(error.message) < 2_000
    assert "a secret" not in error.message


def _challenge(data: bytes) -> None:
    values = data.decode("latin-1").split("\n")
    try:
        found = parse_challenges(values)
    except AnswerMalformed as error:
        _told(error)
        found = []
    for one in found:
        assert one.scheme
        scopes = parse_scopes(one.parameters.get("scope", ""))
        assert merged(scopes) == merged(parse_scopes(" ".join(map(str, scopes))))


def _header(data: bytes) -> None:
    values = data.decode("latin-1").split("\n")
    try:
        headers.next_link(values)
    except AnswerMalformed as error:
        _told(error)
    for value in values:
        wait = headers.retry_after({"Retry-After": value})
        assert wait is None or 0 <= wait <= headers.LONGEST_WAIT_S
        headers.content_range(value)
        headers.upload_offset(value)
        headers.RateLimit.of({"ratelimit-limit": value, "ratelimit-remaining": value})


def _location(data: bytes) -> None:
    endpoint = _ENDPOINTS[data[0] % len(_ENDPOINTS)] if data else _ENDPOINTS[0]
    pool = ClientPool({})
    base = pool.connections.bases[endpoint] = endpoint.bases[0]
    asked = base.join(URL("/v2/acme/app/blobs/uploads/"))
    try:
        found = pool.client(endpoint).resolve(_text(data[1:]), asked)
        endpoint.may_follow(found, asked)
    except PushError as error:
        _told(error)
        return
    assert found.scheme in {"http", "https"}
    assert found.host
    assert found.user is None
    endpoint.may_log_in(found, base)


def _events(data: bytes) -> None:
    stream = PushStream()
    for line in data.split(b"\n"):
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not isinstance(event, dict):
            continue
        before = stream.progress
        stream.feed(event)
        now = stream.progress
        assert now.bytes_done >= before.bytes_done
        assert now.bytes_done <= now.bytes_total
    if stream.error is not None:
        _told(translate(stream.error, Spoken("engine", _IMAGE)))


def _request(data: bytes) -> None:
    try:
        found = parse_request(data)
    except pydantic.ValidationError as error:
        _bounded(error, data)
        return
    again = parse_request(found.to_stored())
    assert again == found
    assert found.facts()
    assert found.display
    assert found.queue
    assert found.target("0" * 20)


def _bounded(error: pydantic.ValidationError, body: bytes) -> None:
    """What is told of a request that is none is short, and so is what a list shows of it."""
    told = str(request_problem(error))
    assert told.isprintable(), f"{told!a} is not printable"
    assert len(told) < 700, f"{len(told)} characters"
    assert len(newer(body) or "") < 100
    assert len(str(glimpse(body))) < 2_000


def _stored(data: bytes) -> None:
    """A long request, of one thing many times; the first two bytes say where and how often."""
    head = _HEADS[data[0] % len(_HEADS)] if data else b""
    unit = data[2:] or b"["
    most = _LONGEST_STORED * (1 + (data[1] if len(data) > 1 else 0)) // 256
    body = head + unit * (most // len(unit))
    started = time.process_time()
    try:
        found = parse_request(body)
    except pydantic.ValidationError as error:
        _bounded(error, body)
    else:
        assert parse_request(found.to_stored()) == found
    assert time.process_time() - started < _LONGEST_PARSE_S


def _archive(data: bytes) -> None:
    fd = os.memfd_create("archive")
    try:
        os.write(fd, data)
        found = read_archive(fd, "app.tar")
    except PushError as error:
        _told(error)
    else:
        for member in found.tar.files.values():
            assert 0 <= member.start <= member.start + member.size
            # What is in a gzip file is longer than the file.
            assert found.marks is not None or member.start + member.size <= len(data)
    finally:
        os.close(fd)


_SPEC_WORDS: Final = (
    *("version", "rules", "from", "to", "registry", "repositories", "repository", "tag", "tags"),
    *("include", "exclude", "semver", "latest", "platforms", "referrers", "on_conflict", "name"),
    *("linux/amd64", "{repository}", "{tag}", "overwrite", "skip", "fail", "acme/**"),
)

TARGETS: Final[dict[str, Target]] = {
    "reference": Target(_reference, longest=400, words=("docker.io", "localhost:", "@sha256:")),
    "catalog": Target(
        _catalog,
        is_json=True,
        words=(
            *("registries", "flavors", "flavor_paths", "anonymous_sources", "flavor", "uri"),
            *("username", "password", "env", "file", "insecure", "ca", "endpoint", "auth_realms"),
            "allowed_networks",
            *("accounts", "groups", "members", "acts_for", "labels", "limits", "weight", "push"),
            *("default", "dockerhub", "aws", "gcp", "azure", "layout", "rate", "path"),
        ),
    ),
    "yaml": Target(_yaml, longest=48, words=("&a ", "*a", "<<: ", "!!", "? ", "- ", "---", "|\n")),
    "spec": Target(_spec, is_json=True, words=_SPEC_WORDS),
    "plan": Target(_plan, is_json=True, words=(*_SPEC_WORDS, "source", "target", "digest")),
    "names": Target(_names, longest=200, words=("**/", "{name}", ">=1.2,<3", "~1", "[^", "(?:")),
    "manifest": Target(
        _manifest,
        is_json=True,
        head=1,
        words=("manifests", "config", "layers", "blobs", "subject", "platform", *MANIFEST_TYPES),
    ),
    "layout": Target(_layout, is_json=True, words=("manifests", "annotations", "mediaType")),
    "refusal": Target(
        _refusal, is_json=True, head=1, words=("errors", "code", "message", "detail", "<title>")
    ),
    "challenge": Target(_challenge, longest=500, words=("Bearer ", "Basic ", 'realm="', "scope=")),
    "header": Target(_header, longest=300, words=('rel="next"', "; rel=", "bytes ", ";w=", "GMT")),
    "location": Target(_location, longest=300, words=("https://", "http://", "//", "@", "%2f")),
    "events": Target(
        _events,
        words=("errorDetail", "progressDetail", "aux", "Digest", "Pushing", "Pushed", "current"),
    ),
    "request": Target(
        _request,
        is_json=True,
        words=(
            "kind",
            "copy",
            "migration",
            "image",
            "source",
            "registry",
            "labels",
            "spec",
            "mode",
            *("on_behalf_of", "account", "subject", "scope"),
        ),
    ),
    "rights": Target(
        rights,
        longest=400,
        words=("prod/", "/**", "*a*", "docker.io/", '{"account":"', '"scope":{"push":["'),
    ),
    "stored": Target(
        _stored,
        words=('"a",', "[],", "{},", '"a":0,', '"a{0,400}",', "\\u0061", '\\"', "1e9,", '"]}},'),
    ),
    "archive": Target(_archive, longest=8_192, words=("manifest.json", "../", "ustar\0", "path=")),
}
