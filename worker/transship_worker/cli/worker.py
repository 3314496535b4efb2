"""``transship worker``."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator

import click

from transship_config.settings import Settings


@click.command()
@click.option(
    "--pushes",
    type=click.IntRange(1, 256),
    metavar="N",
    help="Interactive pushes at once; left out: TRANSSHIP_PUSHES, else 4.",
)
@click.option(
    "--bulk",
    type=click.IntRange(0, 256),
    metavar="N",
    help="Bulk jobs at once, in slots of their own; 0: none; left out: TRANSSHIP_BULK, else 4.",
)
@click.option(
    "--copies",
    type=click.IntRange(0, 256),
    metavar="N",
    help="Copies between registries at once; 0: none; left out: TRANSSHIP_COPIES, else 32.",
)
@click.option("--no-engine", is_flag=True, help="Without a Docker Engine: copies, no pushes.")
@click.option("--engine-name", metavar="NAME", help="Left out: the name in `docker info`.")
@click.option("--catalog", metavar="PATH", help="The catalogue of registry components.")
def worker(
    pushes: int | None,
    bulk: int | None,
    copies: int | None,
    no_engine: bool,
    engine_name: str | None,
    catalog: str | None,
) -> None:
    """Run a worker: claim queued jobs and bring their images to their registries.

    The exit status is 0 after an orderly stop, 1 when no Docker Engine answers, 2 for a catalogue
    or a proxy variable that cannot be used or a limit of open files that is too low, 3 when Redis
    cannot be reached, and 75 when a stop could not be orderly.
    SIGTERM or Ctrl-C: no new jobs, running ones get a grace period, then go back to the queue.
    """
    given = {
        "pushes": pushes,
        "bulk": bulk,
        "copies": copies,
        "engine_name": engine_name,
        "catalog": catalog,
    }
    settings = Settings.from_environment().overridden(given)
    if no_engine and not settings.copies:
        raise click.UsageError("--no-engine with no copies leaves nothing to do")
    sys.exit(_run(settings, with_engine=not no_engine))


def _run(settings: Settings, *, with_engine: bool) -> int:
    """Connect to everything that the worker needs and run it; the exit status."""
    from transship.ledger.connection import address, connect, connection_url, reaching
    from transship_config.redis_url import parse_url
    from transship_config.settings import settings_with_url
    from transship_worker.broker.application import create_app
    from transship_worker.catalog import Catalog
    from transship_worker.credentials.redaction import Redactor, spellings
    from transship_worker.oci.proxies import Proxies
    from transship_worker.process import logs
    from transship_worker.process.celery_worker import run
    from transship_worker.process.runtime import Runtime
    from transship_worker.transports.engine.client import find_engine

    # Requests that are meant for a proxy must not go directly: a mistake there counts now.
    Proxies(os.environ)
    url = connection_url(settings)
    settings = settings_with_url(settings, url)
    opened: list[Catalog] = []

    def secrets() -> Iterator[str]:
        parsed = parse_url(url)
        yield from spellings(parsed.password, settings.account)
        yield from spellings(parsed.sentinel_password, parsed.sentinel_username)
        for one in opened:
            for component in one.last.registries.values():
                yield from component.secret_spellings()

    logs.set_up(settings, Redactor(secrets))
    found = Catalog.open(settings)
    opened.append(found)
    # An outage later is outlived; a queue that is not there at the start is a mistake.
    with connect(url, retries=0) as client, reaching(url):
        client.ping()
    engine = find_engine(name=settings.engine_name) if with_engine else None
    runtime = Runtime(settings, found, engine)
    logging.getLogger("transship.worker").info(
        "worker %s: %s, catalogue %s, queue %s, slots: %s",
        runtime.name,
        f"engine {engine.name}" if engine else "no engine",
        found.path,
        address(url),
        runtime.slots,
    )
    return run(runtime, create_app(settings))
