"""The cases of the engine matrix, by name: all that is pushed from each engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from tests.matrix.engines import failures, platforms, transfers
from tests.matrix.engines.ground import Ground

MIB: Final = 1024 * 1024
VIAS: Final = ("engine", "stream", "auto")


@dataclass(frozen=True, slots=True)
class Case:
    """One case: what is pushed, and what has to come of it."""

    title: str
    run: Callable[[Ground], None]
    #: The value of ``--via``, of a case that is run by each path.
    via: str = ""


def _each(title: str, run: Callable[..., None], **more: object) -> Mapping[str, Case]:
    """The same case by each path."""
    return {via: Case(title, partial(run, via=via, **more), via) for via in VIAS}


def _named(name: str, cases: Mapping[str, Case]) -> dict[str, Case]:
    return {f"{name}-{via}": case for via, case in cases.items()}


CASES: Final[Mapping[str, Case]] = {
    **_named("tiny", _each("tiny image", transfers.built, sizes=[1000])),
    **_named("two", _each("two layers", transfers.built, sizes=[300_000, 50_000])),
    **_named("large", _each("264 MB in six layers", transfers.built, sizes=[44 * MIB] * 6)),
    **_named("loaded", _each("loaded from a `docker save` archive", transfers.loaded)),
    **_named("provenance", _each("BuildKit with provenance", transfers.buildkit)),
    **_named("by-digest", _each("pulled by digest", transfers.pulled_by_digest)),
    **_named("again", _each("pushed again", transfers.pushed_again)),
    **_named("index-complete", _each("index, 3 of 3 platforms", platforms.complete)),
    **_named("index-1of3", _each("index, 1 of 3 platforms", platforms.partly, held=1)),
    **_named("index-2of3", _each("index, 2 of 3 platforms", platforms.partly, held=2)),
    "index-foreign": Case("index, only another platform", platforms.foreign),
    "index-required": Case("index, 1 of 3, `--require-all-platforms`", platforms.required),
    "platform": Case("index, `--platform`", platforms.one_platform),
    "platform-missing": Case("index, `--platform` that it lacks", platforms.missing_platform),
    "rebuilt": Case("tag rebuilt, pushed again", failures.rebuilt_and_pushed_again),
    "rebuilt-queued": Case("tag rebuilt between two attempts", failures.rebuilt_between),
    "login": Case("login", failures.right_login),
    "login-wrong": Case("wrong login", failures.wrong_login),
    "login-missing": Case("missing login", failures.missing_login),
    "check-wrong": Case("`registry check` with a wrong login", failures.check_wrong_login),
    "image-missing": Case("image missing", failures.missing_image),
    **_named("registry-killed", _each("registry killed mid-push", failures.registry_killed)),
    **_named("engine-killed", _each("engine killed mid-push", failures.engine_killed)),
    **_named("cancelled", _each("cancelled mid-push", failures.cancelled)),
}
