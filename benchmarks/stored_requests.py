"""Stored requests that cost the most to read: what somebody would write to hold a worker up.

Each builder fills up to so many bytes. Where a bound would refuse all of it at once, there is a
second one that stays just below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count, islice, product
from typing import Final

from transship.model.requests import MIGRATION_HEAD
from transship.model.stored_text import REQUEST, SHORT_SPECIFICATION, SPECIFICATION

_HEAD: Final = (
    MIGRATION_HEAD + ',"version":1,"mode":"run","name":"x","spec":{"version":1,"name":"x","rules":['
)
_TAIL: Final = "]}}"
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
_LETTER_A: Final = "\\u0061"
_WIDE: Final = "\N{GRINNING FACE}"
_ALTERNATIVES: Final = "|".join(_LETTERS[n % 8] for n in range(119))


def _values(size: int) -> int:
    """How many values a specification of this size may hold, less some for what is around them."""
    bounds = SPECIFICATION if size > SHORT_SPECIFICATION.longest else SHORT_SPECIFICATION
    return bounds.values - 200


def _many(size: int, item: Callable[[int], str], most: int | None = None) -> str:
    """Items with commas between them, until there are so many bytes or so many items."""
    found: list[str] = []
    for number in count():
        text = item(number)
        size -= len(text.encode()) + 1
        if size < 0 or (most is not None and number >= most):
            break
        found.append(text)
    return ",".join(found)


def _rules(size: int, rule: Callable[[int], str], values: int) -> str:
    """A specification of rules that hold so many values each, as many as are read."""
    most = min(1_000, _values(size) // values)
    return _HEAD + _many(size - len(_HEAD) - len(_TAIL), rule, most) + _TAIL


def _rule(repositories: str = '"a"', more: str = "", target: str = "") -> str:
    return (
        '{"from":{"registry":"a","repositories":['
        + repositories
        + ']},"to":{"registry":"b"'
        + target
        + "}"
        + more
        + "}"
    )


def _names(template: str = "{}") -> Iterator[str]:
    return (f'"{template.format("".join(it))}"' for it in product(_LETTERS, repeat=4))


def _in_rules(size: int) -> dict[str, str]:
    """Specifications of many rules."""
    good, bad, stars = _names(), _names("{}/A"), _names("{}*/**")

    def twenty(names: Iterator[str]) -> Callable[[int], str]:
        return lambda _: _rule(",".join(islice(names, 20)))

    def tags(key: str, text: str) -> Callable[[int], str]:
        """Rules of one expression or range; ``@`` is the number of the rule."""
        return lambda n: _rule(more=',"tags":{"%s":%s}' % (key, text.replace("@", f"{n:05d}")))  # noqa: UP031

    def platforms(number: int) -> str:
        names = ",".join(f'"linux/x{number}y{k}"' for k in range(60))
        return _rule(more=f',"platforms":[{names}]')

    def unknown(_: int) -> str:
        return _rule(more="," + ",".join(f'"k{k}":0' for k in range(20)))

    def host(number: int) -> str:
        return _rule().replace('":"a"', f'":"h{number}.example.com:5000"', 1)

    def target(key: str, text: str) -> Callable[[int], str]:
        return lambda n: _rule(target=f',"{key}":"{text}{n}"')

    makers: dict[str, tuple[Callable[[int], str], int]] = {
        "patterns": (twenty(good), 27),
        "patterns with stars": (twenty(stars), 27),
        "bad patterns": (twenty(bad), 27),
        "expressions": (tags("include", f'["{_ALTERNATIVES}@"]'), 10),
        "expressions that repeat": (tags("include", '["a{0,400}b{90}@"]'), 10),
        "expressions that end badly": (tags("include", f'["{_ALTERNATIVES}@\\\\b"]'), 8),
        "expressions of sets": (tags("exclude", f'["{"[a-z]" * 48}@"]'), 10),
        "version ranges": (tags("semver", f'"{"1||" * 80}@"'), 7),
        "platforms that are none": (platforms, 68),
        "unknown keys": (unknown, 28),
        "hosts": (host, 6),
        "long names": (lambda _: _rule(f'"{"a/" * 4_000}"'), 6),
        "escapes": (lambda _: _rule(f'"{_LETTER_A * 1_300}"'), 6),
        "wide letters": (lambda _: _rule(f'"{_WIDE * 2_000}"'), 6),
        "templates": (target("repository", "{name}" * 35), 7),
        "single braces": (target("tag", "{" * 240), 7),
    }
    return {name: _rules(size, make, values) for name, (make, values) in makers.items()}


def _specifications(size: int) -> dict[str, str]:
    room, values, single = size - 400, _values(size), _names()
    left = size - len(_HEAD)
    return _in_rules(size) | {
        "one list of patterns": _HEAD
        + _rule(_many(room, lambda _: next(single), min(9_990, values)))
        + _TAIL,
        "rules that are empty": _HEAD + _many(room, lambda _: "{}", values // 2) + _TAIL,
        "rules that are numbers": _HEAD + _many(room, lambda _: "0", values) + _TAIL,
        "more values than are read": _HEAD + _many(room, lambda _: "0") + _TAIL,
        "the same key": _HEAD + "]}," + _many(room, lambda _: '"kind":"push"', values) + "}",
        "nested lists": _HEAD
        + "[" * 12
        + _many(room, lambda _: "[]", values // 2)
        + "]" * 12
        + _TAIL,
        "deep lists": _HEAD + "[" * left,
        "lists that are closed": _HEAD + "[" * (room // 2) + "]" * (room // 2) + _TAIL,
        "quotes": _HEAD + '"' * left,
        "escaped quotes": _HEAD + '"' + '\\"' * (left // 2),
        "backslashes": _HEAD + '"' + "\\" * left,
        "a long number": _HEAD + "9" * room + _TAIL,
        "numbers": _HEAD + _many(room, lambda n: f"{n}e300", values) + _TAIL,
        "white space": _HEAD + " " * room + _TAIL,
    }


def _pushes(size: int) -> dict[str, str]:
    push = '{"image":"registry.example.com/a:1","registry":"p",'
    copy = (
        '{"kind":"copy","image":"a.b/c:1","registry":"r","source":"a.b/d:2","source_registry":"q",'
    )
    few = REQUEST.values - 100

    def many(item: str, most: int = few) -> str:
        """The item, with its number in place of ``@``."""
        return _many(size - 200, lambda n: item.replace("@", str(n)), most)

    return {
        "a push with unknown keys": push + many('"key@":0') + "}",
        "a push with long unknown keys": push + many(f'"@{"k" * 8_000}":0') + "}",
        "a push with labels": push + '"labels":{' + many('"k@":"v"') + "}}",
        "a push with bad labels": push + '"labels":{' + many('"!@":0') + "}}",
        "a push with empty lists": push + '"labels":[' + many("[]", few // 2) + "]}",
        "a push of a long name": '{"image":"' + "a/" * 4_000 + 'b:1","registry":"p"}',
        "a push of wide letters": f'{{"image":"{_WIDE * 2_000}","registry":"{_WIDE * 2_000}"}}',
        "a copy with tags": copy + '"more_tags":[' + many('"t@"') + "]}",
        "a copy with bad tags": copy + '"more_tags":[' + many('"-@"') + "]}",
        "a copy with platforms": copy + '"platforms":[' + many('"linux/x@"') + "]}",
        "a kind that is none": '{"kind":"' + "x" * 8_000 + '","version":1}',
        "a newer version": '{"version":7,' + many('"key@":[]', few // 2) + "}",
        "commas": "," * size,
        "open lists": "[" * size,
        "what is no JSON": "x" * size,
    }


def corpus() -> Iterator[tuple[str, bytes]]:
    """Each request with its name; none is longer than what a worker reads."""
    for size in (SHORT_SPECIFICATION.longest, SPECIFICATION.longest):
        for name, text in _specifications(size).items():
            yield f"{size >> 10} KiB: {name}", text.encode()[:size]
    for name, text in _pushes(REQUEST.longest).items():
        yield f"{REQUEST.longest >> 10} KiB: {name}", text.encode()[: REQUEST.longest]
