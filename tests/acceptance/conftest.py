"""Fixtures of the acceptance tests: whole fleets of real processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers.registry import Registry
from tests.support.workers.process import Site
from tests.support.workers.team_site import TEAM_A, TEAM_B, TeamSite
from tests.support.workers.two_teams import Scene


@pytest.fixture
def site(tmp_path: Path, redis_url: str, docker_url: str) -> Iterator[Site]:
    """A fleet without workers yet, on the session's Redis and engine."""
    site = Site(tmp_path, redis_url, docker_url)
    yield site
    site.close()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, docker_url: str) -> Iterator[Scene]:
    """Two teams at one fleet, for all tests of a module."""
    with Registry() as prod, Registry() as a_own, Registry() as b_own:
        addresses = {TEAM_A: a_own.address, TEAM_B: b_own.address}
        folder = tmp_path_factory.mktemp("teams")
        with TeamSite(folder, docker_url, prod=prod.address, own=addresses) as teams:
            teams.start()
            yield Scene(teams, prod, (a_own, b_own))


@pytest.fixture
def unharmed(scene: Scene) -> Iterator[None]:
    """After the test all of team A's is as it was."""
    yield
    scene.check()
