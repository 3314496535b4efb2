"""``transship registry register|delete|check|prepare|flavor``: the worker's own catalogue.

``list`` and ``describe`` show what workers publish and live with the producer's commands.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from transship.cli.options import json_option
from transship.cli.output import say, say_json, say_table
from transship.errors import CatalogError, NotUnderRegistry
from transship.formatting import clean
from transship_config.errors import UsageError
from transship_config.settings import Settings
from transship_worker.catalog.file import Place
from transship_worker.catalog.live import load
from transship_worker.catalog.model import Components
from transship_worker.flavors.base import BaseContainerRegistry

_catalog_option = click.option(
    "--catalog",
    metavar="PATH",
    help="The catalogue; left out: TRANSSHIP_CATALOG, else the one in the user's "
    "configuration folder.",
)


@click.command
@click.argument("name", metavar="NAME")
@click.option("--flavor", "flavor_name", required=True, metavar="F", help="The registry's flavor.")
@click.option("--uri", required=True, metavar="U", help="Where its images live: host[/path].")
@click.option(
    "--set",
    "pairs",
    multiple=True,
    metavar="KEY=VALUE",
    help="An option of the flavor; may be repeated. Secrets: KEY=env:NAME or KEY=file:PATH.",
)
@click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input and keep it."
)
@_catalog_option
def register(
    name: str,
    flavor_name: str,
    uri: str,
    pairs: tuple[str, ...],
    password_stdin: bool,
    catalog: str | None,
) -> None:
    """Write a component into the catalogue."""
    from transship_worker.catalog.edit import add_component
    from transship_worker.catalog.model import component
    from transship_worker.cli.settings import parse_settings

    place = _place(catalog)
    flavors = _existing(place).flavors
    options: dict[str, Any] = {"flavor": flavor_name, "uri": uri}
    options |= parse_settings(pairs, flavors.find(flavor_name))
    if password_stdin:
        if "password" in options:
            raise UsageError("choose one: --set password=... or --password-stdin")
        options["password"] = _password_from_stdin()
    made = component(name, options, flavors, place.path.parent)
    if not isinstance(made, BaseContainerRegistry):
        raise UsageError("\n".join(f"{name}: {problem.text}" for problem in made))
    # As it will be published: without trailing slashes and other names of Docker Hub.
    options["uri"] = made.uri
    add_component(place, name, options, private=password_stdin)
    kept = "; only its user can read it, as it holds a password" if password_stdin else ""
    say(f"registered {name} ({made.FLAVOR}, {made.uri}) in {place.path}{kept}")


@click.command
@click.argument("name", metavar="NAME")
@_catalog_option
def delete(name: str, catalog: str | None) -> None:
    """Take a component out of the catalogue."""
    from transship_worker.catalog.edit import remove_component

    place = _place(catalog)
    remove_component(place, name)
    say(f"deleted {name} from {place.path}")


@click.command
@click.argument("name", metavar="NAME")
@click.option(
    "--no-engine", is_flag=True, help="Ask the registry directly, as copies do, and no engine."
)
@_catalog_option
@click.pass_context
def check(ctx: click.Context, name: str, no_engine: bool, catalog: str | None) -> None:
    """Try a component without changing anything; fails when something is wrong.

    Looks at the catalogue, the credentials, the Docker Engine's settings for this registry,
    and whether the registry answers the engine.
    """
    from transship_worker.cli.checks import run_checks

    place = _place(catalog)
    registry = _read(place).registry(name)
    say(f"ok    catalogue    {place.path}: {name} is {registry.FLAVOR} at {registry.uri}")
    failed = False
    engine = None if no_engine else Settings.from_environment().engine_name
    for result in run_checks(registry, engine_name=engine):
        say(f"{result.verdict:<5} {result.subject:<12} {result.text}")
        failed = failed or result.verdict == "FAIL"
    if failed:
        ctx.exit(1)


@click.command
@click.argument("name", metavar="NAME")
@click.argument("image", metavar="IMAGE")
@_catalog_option
def prepare(name: str, image: str, catalog: str | None) -> None:
    """Prepare a registry for an image, as a worker does before a push; may create things."""
    from transship_worker.cli.checks import require_engine_settings
    from transship_worker.flavors.notes import collected_notes

    place = _place(catalog)
    registry = _read(place).registry(name)
    _tell_read(place)
    try:
        registry.belonging(image)
    except NotUnderRegistry as error:
        # For a job this is its failure; here it is what was typed.
        raise UsageError(error.message) from None
    require_engine_settings(registry, Settings.from_environment().engine_name, _warn)
    with collected_notes() as notes:
        reference = registry.prepared(image)
    for note in notes:
        say(note)
    if not notes:
        say("nothing had to be done")
    say(f"{reference} can be pushed to {name}")


@click.group
def flavor() -> None:
    """List flavors, or register one of your own."""


@flavor.command("list")
@json_option
@_catalog_option
def list_flavors(as_json: bool, catalog: str | None) -> None:
    """List flavors: class, integration, and whether they can be used here."""
    place = _place(catalog)
    rows = _existing(place, tell=True).flavors.rows()
    if as_json:
        for row in rows:
            shown = {"flavor": row.flavor, "class": row.source, "integration": row.integration}
            say_json(json.dumps({**shown, "usable": row.usable, "hint": row.hint}))
        return
    say_table(
        ["FLAVOR", "CLASS", "INTEGRATION", "USABLE"],
        [[r.flavor, r.source, r.integration, "yes" if r.usable else f"no: {r.hint}"] for r in rows],
    )


@flavor.command("register")
@click.argument("source_path", metavar="SOURCE_PATH")
@click.option(
    "--path",
    "folder",
    metavar="FOLDER",
    help="Where its module lies, if it is no installed package; added to flavor_paths.",
)
@_catalog_option
def register_flavor(source_path: str, folder: str | None, catalog: str | None) -> None:
    """Write a custom flavor into the catalogue: module.Class of a BaseContainerRegistry."""
    from pathlib import Path

    from transship_worker.catalog.edit import add_flavor
    from transship_worker.flavors.custom import load as load_flavor

    place = _place(catalog)
    known = _existing(place)
    paths = list(known.flavor_paths)
    if folder is not None:
        folder = str(Path(folder).expanduser().absolute())
        if not Path(folder).is_dir():
            raise UsageError(f"--path {folder} is not a folder")
        paths.append(Path(folder))
    # Tried before the file is touched, so that what is wrong is said of the class, not of a line.
    taken = {name for name, source in known.flavors.sources.items() if source != source_path}
    found = load_flavor(source_path, paths=paths, taken=taken)
    if add_flavor(place, source_path, folder):
        say(f"registered flavor {found.FLAVOR} ({source_path}) in {place.path}")
    else:
        say(f"flavor {found.FLAVOR} ({source_path}) is in {place.path} already")


def _place(catalog: str | None) -> Place:
    return Place.find(catalog or Settings.from_environment().catalog)


def _read(place: Place) -> Components:
    try:
        return load(place)
    except FileNotFoundError:
        raise CatalogError(place.create_hint) from None


def _existing(place: Place, *, tell: bool = False) -> Components:
    """The catalogue, or an empty one where there is none yet."""
    try:
        found = load(place)
    except FileNotFoundError:
        if tell:
            _warn(f"no catalogue at {place.path}")
        return Components()
    if tell:
        _tell_read(place)
    return found


def _tell_read(place: Place) -> None:
    _warn(f"read {place.path}")


def _warn(line: str) -> None:
    click.echo(clean(line), err=True)


def _password_from_stdin() -> str:
    text = sys.stdin.read().removesuffix("\n").removesuffix("\r")
    if not text or not text.isprintable():
        raise UsageError("--password-stdin: standard input must hold one line, the password")
    return text
