"""What ``transship doctor`` says of accounts and their rights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from transship.cli.finding import Finding
from transship.client import Client
from transship.model.components import Fleet
from transship.model.rights import Verb
from transship_config.names import DEFAULT_ACCOUNT
from transship_config.text import some_of

#: Accounts of the shipped users.acl that submit nothing.
_NO_PRODUCERS: Final = frozenset({DEFAULT_ACCOUNT, "worker", "monitor"})
_AGREE: Final = "give the workers' catalogues the same section accounts"
_CHECK: Final = "accounts"


def account_findings(client: Client, fleet: Fleet) -> Iterator[Finding]:
    """Whether rights are checked, what is this account's, and whose names do not meet."""
    versions = fleet.rights_versions
    if versions == [""]:
        message = "no catalogue has the section accounts: every Redis account may push and copy all"
        yield Finding(_CHECK, True, "everything_allowed", message)
        return
    if len(versions) > 1:
        lacking = [worker.name for worker in fleet.workers if not worker.rights_version]
        message = "catalogues give accounts different rights: what is allowed depends on the worker"
        if lacking:
            message = f"{some_of(lacking)} checks no rights: the catalogue has no section accounts"
        yield Finding(_CHECK, False, "rights_differ", message, _AGREE)
    versions = [version for version in versions if version]
    yield from _own(client)
    yield from _names(client, versions)


def _own(client: Client) -> Iterator[Finding]:
    """What this account may do, if it is one that submits."""
    found = client.rights()
    if found:
        for rights in found:
            words = [rights.describe(verb).removeprefix("it may ") for verb in Verb]
            acts = f"; acts for {some_of(sorted(rights.acts_for))}" if rights.acts_for else ""
            message = f"account {client.account} may {', '.join(words)}{acts}"
            yield Finding(_CHECK, True, "ok", message)
    elif not client.reads_all:
        message = f"account {client.account} may push and copy nothing: no catalogue has it"
        mend = "add it to the section accounts of the workers' catalogues"
        yield Finding(_CHECK, False, "no_rights", message, mend)


def _names(client: Client, versions: list[str]) -> Iterator[Finding]:
    """Accounts that only the catalogs have, or only Redis."""
    catalog, redis = client.catalog_accounts(versions), client.redis_accounts()
    if catalog is None or redis is None:
        message = (
            f"account {client.account} may not see all accounts, so those of the catalogue were "
            "not compared with those of Redis; `monitor` may"
        )
        yield Finding(_CHECK, True, "not_compared", message)
        return
    if missing := sorted(catalog - redis):
        message = (
            f"in the catalogue and not in Redis, so that nobody submits as: {some_of(missing)}"
        )
        mend = "transship accounts acl prints their rules for users.acl"
        yield Finding(_CHECK, False, "not_in_redis", message, mend)
    if others := sorted(redis - catalog - _NO_PRODUCERS):
        message = (
            f"in Redis and not in the catalogue, so that nothing is allowed: {some_of(others)}"
        )
        mend = "add those that submit to the section accounts of the workers' catalogues"
        yield Finding(_CHECK, True, "not_in_catalog", message, mend)
    if not missing and not others:
        yield Finding(_CHECK, True, "ok", f"{len(catalog)} in the catalogue, all of them in Redis")
