"""``transship registry``: what the workers publish, and (with the worker) their catalogue."""

from __future__ import annotations

import json

import click

from transship.cli.lazy import Entry, LazyGroup
from transship.cli.options import json_option
from transship.cli.output import complain, say_fields, say_json, say_table
from transship.client import Client
from transship.model.components import Fleet, PublicComponent

_WORKER = "transship_worker.cli.registry"

COMMANDS = {
    "list": Entry("transship.cli.registry:list_components", "List what live workers publish."),
    "describe": Entry("transship.cli.registry:describe", "Show one published component."),
    "register": Entry(f"{_WORKER}:register", "Write a component into the catalogue."),
    "delete": Entry(f"{_WORKER}:delete", "Take a component out of the catalogue."),
    "check": Entry(f"{_WORKER}:check", "Try a component without changing anything."),
    "prepare": Entry(f"{_WORKER}:prepare", "Prepare a registry for an image."),
    "flavor": Entry(f"{_WORKER}:flavor", "List flavors, or register one of your own."),
}

registry = LazyGroup(
    name="registry",
    table=COMMANDS,
    help="Show and edit registry components.\n\n"
    "list and describe show what live workers publish, from anywhere; the others work on the "
    "catalogue of this machine's worker.",
)


@click.command("list")
@json_option
@click.pass_context
def list_components(ctx: click.Context, as_json: bool) -> None:
    """List what live workers publish.

    Two URIs under one name are an error, because a push by that name is refused.
    """
    with Client() as client:
        fleet = client.fleet()
    if as_json:
        for component in fleet.components:
            say_json(json.dumps(_object(fleet, component)))
    elif fleet.components:
        rows = [[c.name, c.flavor, c.uri, str(len(_workers(fleet, c)))] for c in fleet.components]
        say_table(["NAME", "FLAVOR", "URI", "WORKERS"], rows)
    elif fleet.workers:
        complain("live workers publish no component; `transship registry register` adds one")
    else:
        complain("no live worker, so nothing is published; start one: transship worker")
    for name, uris in fleet.conflicts.items():
        complain(
            f"workers publish component {name!r} with different URIs: {', '.join(uris)}; "
            "make their catalogues agree"
        )
    if fleet.conflicts:
        ctx.exit(1)


@click.command
@click.argument("name", metavar="NAME")
@json_option
def describe(name: str, as_json: bool) -> None:
    """Show one published component."""
    with Client() as client:
        fleet = client.fleet()
    found = _object(fleet, fleet.component(name))
    if as_json:
        say_json(json.dumps(found))
        return
    say_fields(
        [
            (key, ", ".join(value) if isinstance(value, list) else value)
            for key, value in found.items()
        ]
    )


def _workers(fleet: Fleet, component: PublicComponent) -> list[str]:
    return sorted(w.name for w in fleet.workers if component in w.components)


def _object(fleet: Fleet, component: PublicComponent) -> dict[str, str | list[str]]:
    """What ``--json`` prints of a component."""
    engines = {w.engine for w in fleet.workers if component in w.components and w.engine}
    return {
        "name": component.name,
        "flavor": component.flavor,
        "uri": component.uri,
        "engines": sorted(engines),
        "workers": _workers(fleet, component),
    }
