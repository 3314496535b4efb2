"""What must hold of every job and every tag at the end, looked at from outside."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import requests

from tests.chaos.history import Story
from tests.chaos.load import Asked
from tests.support.servers.registry import MANIFEST_TYPES, Registry
from transship import Client, State
from transship.model.jobs import Kind as JobKind


def of_jobs(found: Mapping[str, Story], asked: Asked) -> list[str]:
    """Nothing lost, nothing twice, nothing that nobody asked for, no good job failed."""
    broken = [f"job {one} was acknowledged and is gone" for one in asked.jobs if one not in found]
    for job, story in found.items():
        record = story.record
        known = story.ask is not None or record.migration or record.kind is JobKind.MIGRATION
        failed = record.state is State.FAILED and not _given_up(story)
        for wrong, what in (
            (not record.state.final, f"is still {record.state}"),
            (
                record.state.final and len(story.finishes) != 1,
                f"has {len(story.finishes)} accepted finishes",
            ),
            (not known, "was not asked for"),
            (failed, "failed for good although nothing is wrong with it"),
        ):
            if wrong:
                broken.append(f"job {job} {what}\n{story.told()}")
    return broken


def _given_up(story: Story) -> bool:
    error = story.record.error
    return error is not None and error.message.startswith("given up after")


def of_migrations(client: Client, asked: Asked) -> list[str]:
    """Each is final, its totals add up, and it brought what it says."""
    broken = []
    for name, images in asked.migrations.items():
        record = client.migration(name).record()
        totals = record.images
        ended = totals.succeeded + totals.skipped + totals.failed + totals.cancelled
        jobs = sum(1 for _ in client.migration(name).jobs())
        if not record.state.final or ended != totals.planned or totals.planned > len(images):
            broken.append(f"migration {name}: {jobs} jobs, {record.to_json()}")
        elif record.state is State.SUCCEEDED and totals.planned != len(images):
            broken.append(f"migration {name} succeeded with {ended} of {len(images)} images")
    return broken


class Target:
    """All that a registry holds, read from itself and past every proxy."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._session = requests.Session()
        self._hashed: set[str] = set()
        self._contents: dict[tuple[str, str], tuple[frozenset[str], list[str]]] = {}
        self.tags: dict[str, str] = {}
        for repository in self._repositories():
            for tag in registry.list_tags(repository):
                digest = registry.digest(repository, tag)
                self.tags[f"{repository}:{tag}"] = str(digest)

    def _repositories(self) -> Iterator[str]:
        last = ""
        while page := self._get(f"_catalog?n=100&last={last}").json()["repositories"]:
            yield from page
            last = page[-1]

    def is_what(self, name: str, digest: str) -> frozenset[str]:
        """Digests that a manifest goes by: its own, and of an image its configuration's."""
        return self._content(name, digest)[0]

    def missing(self, name: str, digest: str) -> list[str]:
        """What is wrong with a manifest or its blobs; nothing, where all is there."""
        return self._content(name, digest)[1]

    def _content(self, name: str, digest: str) -> tuple[frozenset[str], list[str]]:
        repository = name.rpartition(":")[0]
        key = repository, digest
        if key not in self._contents:
            answer = self._get(f"{repository}/manifests/{digest}")
            if answer.status_code != 200:
                return frozenset(), [f"manifest {digest}: {answer.status_code}"]
            manifest = answer.json()
            blobs = [manifest["config"], *manifest["layers"]]
            wrong = [word for blob in blobs for word in self._wrong(repository, blob)]
            self._contents[key] = frozenset({digest, manifest["config"]["digest"]}), wrong
        return self._contents[key]

    def _wrong(self, repository: str, blob: Mapping[str, Any]) -> Iterable[str]:
        digest = str(blob["digest"])
        path = f"{repository}/blobs/{digest}"
        if digest in self._hashed:
            # distribution keeps a content once; what counts here is the repository's link.
            answer = self._session.head(f"{self._registry.base}/v2/{path}", timeout=10)
            size = int(answer.headers.get("Content-Length", -1))
        else:
            answer = self._get(path)
            size = len(answer.content)
            if f"sha256:{hashlib.sha256(answer.content).hexdigest()}" == digest:
                self._hashed.add(digest)
        if answer.status_code != 200 or size != blob["size"] or digest not in self._hashed:
            yield f"blob {digest}: {answer.status_code}, {size} of {blob['size']} bytes"

    def _get(self, path: str) -> requests.Response:
        url = f"{self._registry.base}/v2/{path}"
        return self._session.get(url, headers={"Accept": MANIFEST_TYPES}, timeout=30)


def of_tags(target: Target, found: Mapping[str, Story], asked: Asked) -> list[str]:
    """What succeeded is there, whole; what is there was asked for; the last wish has the tag."""
    return [*_not_there(target, found), *_not_asked(target, asked), *_not_last(target, found)]


def _name(story: Story) -> str:
    return story.record.image.partition("/")[2]


def _not_there(target: Target, found: Mapping[str, Story]) -> Iterable[str]:
    for job, story in found.items():
        record = story.record
        if record.state is not State.SUCCEEDED or record.kind is JobKind.MIGRATION:
            continue
        name, digest = _name(story), str(record.digest)
        wrong = target.missing(name, digest)
        if name not in target.tags:
            wrong = [*wrong, "the tag is not there"]
        if story.ask is not None and story.ask.want not in target.is_what(name, digest):
            wrong = [*wrong, f"it is not {story.ask.want}"]
        if wrong:
            yield f"job {job} succeeded, but {'; '.join(wrong)}\n{story.told()}"


def _not_asked(target: Target, asked: Asked) -> Iterable[str]:
    wanted = asked.wanted
    for name, digest in target.tags.items():
        if not target.is_what(name, digest) & wanted.get(name, set()):
            yield f"{name} is {digest}, which nobody asked for"


def _not_last(target: Target, found: Mapping[str, Story]) -> Iterable[str]:
    """A tag is what the last job for it that succeeded brought, or one after it that failed."""
    of_name: defaultdict[str, list[Story]] = defaultdict(list)
    for story in found.values():
        if story.record.kind is not JobKind.MIGRATION:
            of_name[_name(story)].append(story)
    for name, all_of_it in of_name.items():
        all_of_it.sort(key=lambda story: (story.record.created_at, story.record.id))
        allowed: set[str] = set()
        for story in reversed(all_of_it):
            allowed |= {story.ask.want} if story.ask else set()
            if story.record.state is State.SUCCEEDED:
                allowed.add(str(story.record.digest))
                break
        digest = target.tags.get(name)
        if digest is not None and not target.is_what(name, digest) & allowed:
            told = "\n".join(story.told() for story in all_of_it)
            yield f"{name} is {digest}, and not what the last job for it brought\n{told}"
