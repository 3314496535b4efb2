"""Text for messages."""

from __future__ import annotations

from transship_config.text import NAMES_MOST, did_you_mean, some_of


def test_the_nearest_name_is_suggested_before_all_of_them() -> None:
    assert did_you_mean("prdo", ["dev", "prod"]) == " did you mean 'prod'? known: dev, prod"
    assert did_you_mean("x", []) == " known: none"


def test_of_many_names_a_message_lists_the_first_ones() -> None:
    names = [f"n{number}" for number in range(NAMES_MOST + 7)]
    assert some_of(names[:NAMES_MOST]) == ", ".join(names[:NAMES_MOST])
    assert some_of(names) == f"{', '.join(names[:NAMES_MOST])} and 7 more"
