"""``transship accounts acl``: rules of Redis accounts for the accounts of a catalogue."""

from __future__ import annotations

from typing import Final

import click

from transship.cli.output import warn
from transship_config.errors import UsageError
from transship_config.settings import Settings
from transship_worker.catalog.file import Place
from transship_worker.catalog.live import load

#: Accounts of the shipped users.acl that are no producers: their rules are there.
_OTHERS: Final = frozenset({"default", "worker", "monitor"})
#: The first characters of a job's id, in a pattern that fits no longer and no shorter id.
_CORE: Final = "?" * 20
#: What a producer may do in Redis; the same text as in config/redis/users.acl.
_RULES: Final = """\
user {name} on resetkeys resetchannels -@all
  +auth +hello +select +ping +client|setname +time
  +fcall +wait
  +get +getrange +mget +exists +hget +hgetall +smembers +srandmember
  +zscore +zcard +zrange +zrevrange +xread
  %R~transship:accounts %R~transship:accounts:known
  %R~transship:worker:* %R~transship:workers %R~transship:listening %R~transship:admission
  %R~transship:rights:{name}:* %R~transship:of:{name}:*
  %R~transship:job:{core}-{name} %R~transship:events:{core}-{name}
  %R~transship:migration:{core}-{name} %R~transship:migration:{core}-{name}:*
  +set +del +sadd +zadd +zrem +rpush +lpop +blpop +expire ~transship:from:{name}:*
  (+sadd ~transship:accounts)
  (+lpush ~transship:celery:push.* ~transship:celery:bulk.*
    ~transship:celery:copy.* ~transship:celery:plan.*)
"""


def rules_of(name: str) -> str:
    """The lines of users.acl for a producer of this name."""
    return _RULES.format(name=name, core=_CORE)


@click.command
@click.option(
    "--catalog",
    metavar="PATH",
    help="The catalogue; left out: TRANSSHIP_CATALOG, else the one in the user's "
    "configuration folder.",
)
def acl(catalog: str | None) -> None:
    """Print rules of Redis accounts for the accounts of the catalogue.

    In the form of config/redis/users.acl, without passwords: `sh accounts.sh users.acl FILE` makes
    of both what Redis loads.
    """
    place = Place.find(catalog or Settings.from_environment().catalog)
    try:
        accounts = load(place).accounts
    except FileNotFoundError:
        raise UsageError(place.create_hint) from None
    if accounts is None:
        raise UsageError(f"{place.path} has no section accounts: there is no account to print")
    click.echo(f"# Made of the section accounts of {place.path.name} by `transship accounts acl`.")
    for name in sorted(accounts):
        if name in _OTHERS:
            warn(f"account {name} is not printed: users.acl has it, and it does not submit")
        else:
            click.echo(f"\n{rules_of(name)}", nl=False)
