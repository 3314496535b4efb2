"""Changes JSON as values: a change of bytes nearly always makes text that is no JSON."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any, Final

Bytewise = Callable[[bytes, int], bytes]

#: Values at which readers fail: at the ends of ranges, of other types, with odd characters.
_ODD: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63 - 1, 2**63, 10**40, 1.5, 1e308, float("inf")),
    *("", " ", "a", "\x00", "\x1b[2J", "‮", "\udc80", "é", "=cmd()", "../x", "a" * 300, "１"),
    *([], {}, [[]], {"": ""}, "sha256:" + "a" * 64, "sha512:" + "b" * 128, "a.b/c:1"),
)


def mutated(
    data: bytes, most: int, seed: int, *, words: tuple[str, ...], bytewise: Bytewise
) -> bytes:
    """JSON with a few of its values changed; one time in eight, its bytes."""
    chance = random.Random(seed)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = {}
    if chance.random() < 0.125:
        return bytewise(data, most)
    for _ in range(chance.randint(1, 4)):
        value = _changed(value, chance, words)
    made = json.dumps(value, ensure_ascii=chance.random() < 0.9).encode("utf-8", "surrogatepass")
    return made if len(made) <= most else data[:most]


def _changed(value: Any, chance: random.Random, words: tuple[str, ...]) -> Any:
    """The value with one change, at a random depth."""
    if isinstance(value, dict) and (value or chance.random() < 0.5):
        return _changed_dict(dict(value), chance, words)
    if isinstance(value, list) and chance.random() < 0.9:
        return _changed_list(list(value), chance, words)
    if isinstance(value, str) and chance.random() < 0.5:
        at = chance.randint(0, len(value))
        return (
            value[:at]
            + chance.choice((*words, *(o for o in _ODD if isinstance(o, str))))
            + (value[at + chance.randint(0, 2) :])
        )
    return _new(chance, words)


def _changed_dict(value: dict[str, Any], chance: random.Random, words: tuple[str, ...]) -> Any:
    action = chance.random()
    if action < 0.2 or not value:
        value[chance.choice(words) if words and chance.random() < 0.9 else "x"] = _new(
            chance, words
        )
    elif action < 0.3:
        del value[chance.choice(list(value))]
    elif action < 0.35:
        one = chance.choice(list(value))
        value[chance.choice(words) if words else "x"] = value.pop(one)
    else:
        one = chance.choice(list(value))
        value[one] = _changed(value[one], chance, words)
    return value


def _changed_list(value: list[Any], chance: random.Random, words: tuple[str, ...]) -> Any:
    action = chance.random()
    if action < 0.2 or not value:
        value.insert(chance.randint(0, len(value)), _new(chance, words))
    elif action < 0.3:
        value.append(chance.choice(value))
    elif action < 0.4:
        value.pop(chance.randrange(len(value)))
    else:
        at = chance.randrange(len(value))
        value[at] = _changed(value[at], chance, words)
    return value


def _new(chance: random.Random, words: tuple[str, ...]) -> Any:
    if words and chance.random() < 0.5:
        return chance.choice(words)
    found = chance.choice(_ODD)
    return [found] if chance.random() < 0.1 else found
