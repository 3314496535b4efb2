"""Options and argument types that several commands share."""

from __future__ import annotations

import math

import click

from transship.formatting import parse_duration

#: The longest length of time that an option takes. Unit: s.
LONGEST_S = 30 * 24 * 3600


class Duration(click.ParamType[float]):
    """Seconds, or a number with ``s``, ``m``, ``h`` or ``d``; rounded up to whole seconds."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Seconds from the text on the command line."""
        try:
            seconds = math.ceil(parse_duration(str(value)))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if not 1 <= seconds <= LONGEST_S:
            self.fail(f"{value!r} is not between 1s and 30d", param, ctx)
        return seconds


class Label(click.ParamType[tuple[str, str]]):
    """``KEY=VALUE``."""

    name = "k=v"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Key and value."""
        key, equals, text = str(value).partition("=")
        if not equals or not key:
            self.fail(f"{value!r} is not a label; write KEY=VALUE", param, ctx)
        return key, text


def labels_of(
    ctx: click.Context, param: click.Parameter, pairs: tuple[tuple[str, str], ...]
) -> dict[str, str]:
    """The labels as a mapping; one key twice is a mistake."""
    labels: dict[str, str] = {}
    for key, text in pairs:
        if labels.get(key, text) != text:
            raise click.BadParameter(f"{key!r} is given twice", ctx, param)
        labels[key] = text
    return labels


on_behalf_of_option = click.option(
    "--on-behalf-of",
    metavar="A[/WHO]",
    help="The account for which this one acts, and who asked for it; the workers' catalogue must "
    "let this account act for it.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object per line."
)
label_option = click.option(
    "--label",
    "labels",
    type=Label(),
    multiple=True,
    callback=labels_of,
    metavar="K=V",
    help="A label of the job; may be repeated.",
)
timeout_option = click.option(
    "--timeout",
    type=Duration(),
    metavar="S",
    help="Stop waiting after this long (seconds, or 90s, 10m, 6h); the job goes on. Exit status 4.",
)
