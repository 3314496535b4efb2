"""``transship accounts``: who may push and copy what."""

from __future__ import annotations

import click

from transship.cli.lazy import Entry, LazyGroup
from transship.cli.options import json_option
from transship.cli.output import complain, say_fields, say_json, say_table
from transship.client import Client
from transship.model.accounts import AccountRecord
from transship.model.rights import Verb

COMMANDS = {
    "list": Entry("transship.cli.accounts:list_accounts", "List accounts and what they may do."),
    "show": Entry("transship.cli.accounts:show", "Show one account."),
    "acl": Entry(
        "transship_worker.cli.accounts:acl",
        "Print rules of Redis accounts for the accounts of the catalogue.",
    ),
}

accounts = LazyGroup(
    name="accounts",
    table=COMMANDS,
    help="Show accounts and their rights.\n\n"
    "list and show say what live workers publish: to `monitor` of all accounts, to another account "
    "of itself. acl reads the catalogue of this machine's worker.",
)


@click.command("list")
@json_option
def list_accounts(as_json: bool) -> None:
    """List accounts and what they may do.

    RUNNING and QUEUED count jobs, REFUSED those that the account may not have done. SHARE is an
    account's part of the weights of all accounts with jobs; workers do not divide their slots by it
    yet.
    """
    with Client() as client:
        records, everything = client.accounts(), client.fleet().rights_versions == [""]
        own = None if client.reads_all else client.account
    if as_json:
        for record in records:
            say_json(record.to_json())
    else:
        head = ["ACCOUNT", "PUSH", "COPY FROM", "COPY TO", "RUNNING", "QUEUED", "SHARE", "REFUSED"]
        say_table(head, [_row(record, everything=everything) for record in records])
    if everything:
        complain("no catalogue has the section accounts: every account may push and copy all")
    if own is not None:
        complain(f"account {own} sees itself alone; `monitor` sees all accounts")


@click.command
@click.argument("name", metavar="[NAME]", required=False)
@json_option
def show(name: str | None, as_json: bool) -> None:
    """Show one account; without NAME, the one of TRANSSHIP_URL."""
    with Client() as client:
        record = client.account_record(name or client.account)
        everything = client.fleet().rights_versions == [""]
    if as_json:
        say_json(record.to_json())
        return
    rows = [("account", record.name), ("in the catalogue", _known(record, everything=everything))]
    for rights in record.rights or [{}]:
        rows += [(verb.text, _patterns(record, rights, verb, everything)) for verb in Verb]
        limits = rights.get("limits") or {}
        rows += [
            ("acts for", ", ".join(rights.get("acts_for") or []) or "-"),
            (
                "labels",
                ", ".join(f"{k}={v}" for k, v in (rights.get("labels") or {}).items()) or "-",
            ),
            ("weight", str(rights.get("weight") or 1)),
            ("limit of queued", _number(limits.get("queued"))),
            ("limit of running", _number(limits.get("running"))),
        ]
    rows += [
        ("running", _number(record.running)),
        ("queued", _number(record.queued)),
        ("share", _share(record)),
        ("refused", _refused(record)),
    ]
    say_fields(rows)


def _row(record: AccountRecord, *, everything: bool) -> list[str]:
    rights = record.rights[0] if record.rights else {}
    return [
        record.name,
        *(_patterns(record, rights, verb, everything) for verb in Verb),
        _number(record.running),
        _number(record.queued),
        _share(record),
        _number(None if record.refused is None else sum(record.refused.values())),
    ]


def _patterns(record: AccountRecord, rights: object, verb: Verb, everything: bool) -> str:
    if everything:
        return "everything"
    if not isinstance(rights, dict) or not rights:
        return "nothing" if record.in_catalog is False else "?"
    return ", ".join(rights.get(verb) or []) or "nothing"


def _known(record: AccountRecord, *, everything: bool) -> str:
    if everything:
        return "no catalogue has the section accounts: everything is allowed"
    if record.in_catalog is None:
        return "not known"
    return "yes" if record.in_catalog else "no: it may do nothing"


def _number(value: object) -> str:
    return "-" if value is None else str(value)


def _share(record: AccountRecord) -> str:
    return "-" if record.share is None else f"{record.share:.0%}"


def _refused(record: AccountRecord) -> str:
    if record.refused is None:
        return "-"
    return ", ".join(f"{code}: {count}" for code, count in record.refused.items()) or "0"
