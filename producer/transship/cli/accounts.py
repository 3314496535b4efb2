"""``transship accounts``: who may push and copy what."""

from __future__ import annotations

from transship.cli.lazy import Entry, LazyGroup

COMMANDS = {
    "acl": Entry(
        "transship_worker.cli.accounts:acl",
        "Print rules of Redis accounts for the accounts of the catalogue.",
    ),
}

accounts = LazyGroup(
    name="accounts",
    table=COMMANDS,
    help="Show accounts and their rights.\n\nacl reads the catalogue of this machine's worker.",
)
