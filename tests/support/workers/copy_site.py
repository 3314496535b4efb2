"""Whole fleets that copy: workers without an engine, registries as their components."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.processes import program
from tests.support.workers.process import Site, WorkerProcess
from transship.model.jobs import State
from transship.model.records import JobEvent


class CopySite(Site):
    """A fleet that has no Docker Engine."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        folder.mkdir(exist_ok=True)
        # Nobody asks it: the workers are told to do without.
        super().__init__(folder, redis_url, f"unix://{folder}/no-engine.sock")

    def start_copier(self, **environment: str) -> WorkerProcess:
        """Start a worker; its lease is long, so that a busy machine loses nothing."""
        return self.start_worker("--no-engine", **{"TRANSSHIP_LEASE": "30", **environment})

    def states(self, job: str) -> list[JobEvent]:
        """All that a job went through, in its order; the job is final."""
        return [one for one in self.client.job(job).events(timeout=10) if one.kind == "state"]

    def pauses(self, job: str) -> list[JobEvent]:
        """How often a job waited because its registry wants to be left alone."""
        return [
            one
            for one in self.states(job)
            if one.state is State.RETRYING and one.error and one.error.code == "registry_paused"
        ]


def component(address: str, **options: Any) -> dict[str, Any]:
    """A component of the flavor ``default``; ``address`` may have a path."""
    return {"flavor": "default", "uri": address, **options}


def rule(source: str, target: str, *repositories: str, **more: Any) -> dict[str, Any]:
    """A rule from one component to another, all repositories when none is named."""
    return {
        "from": {"registry": source, "repositories": list(repositories) or ["**"]},
        "to": {"registry": target, "repository": "{repository}"},
        **more,
    }


def spec(*rules: Mapping[str, Any], name: str = "old-to-new") -> dict[str, Any]:
    """A specification of these rules."""
    return {"version": 1, "name": name, "rules": [dict(one) for one in rules]}


def counted(totals: Any) -> dict[str, int]:
    """A record's totals without those that are 0."""
    found: dict[str, int] = totals.model_dump(exclude_defaults=True)
    return found


def raw(address: str, repository: str, reference: str) -> bytes:
    """A manifest as skopeo reads it: by its digest, or by a tag."""
    mark = "@" if ":" in reference else ":"
    place = f"docker://{address}/{repository}{mark}{reference}"
    words = [program("skopeo"), "inspect", "--raw", "--tls-verify=false", place]
    return subprocess.check_output(words, timeout=60)


def manifests(address: str, repository: str, reference: str) -> dict[str, bytes]:
    """By digest: a manifest, and those that it lists, at any depth; as skopeo reads them."""
    body = raw(address, repository, reference)
    found = {f"sha256:{hashlib.sha256(body).hexdigest()}": body}
    for child in json.loads(body).get("manifests", []):
        if child["digest"] not in found:
            found |= manifests(address, repository, child["digest"])
    return found
