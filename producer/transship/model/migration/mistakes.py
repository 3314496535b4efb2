"""What is wrong with a specification or a plan, and where: every mistake, one line each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel, ValidationError

from transship_config.errors import UsageError
from transship_config.text import did_you_mean

#: Mistakes that one error names; a file with more has one cause.
MOST_MISTAKES: Final = 50
#: Characters of any text; what it is used for allows fewer.
LONGEST_TEXT: Final = 8_192
#: Characters of a bad value that a message repeats.
_SHOWN: Final = 60

Key = str | int


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake: the keys that lead to it, and what is wrong there and would be right."""

    keys: tuple[Key, ...]
    text: str

    @property
    def place(self) -> str:
        """``rules[0].tags.semver``; empty for the whole."""
        return place(self.keys)

    def __str__(self) -> str:
        return f"{self.place}: {self.text}" if self.keys else self.text


class SpecError(UsageError):
    """A specification or a plan that cannot be used; one line a mistake, each with its place.

    ``mistakes`` keeps the keys of each, so that a reader of files can add line numbers.
    """

    code = "bad_spec"

    def __init__(self, mistakes: Iterable[Mistake], *, what: str = "") -> None:
        self.mistakes = tuple(mistakes)
        self.what = what
        named = [str(mistake) for mistake in self.mistakes[:MOST_MISTAKES]]
        if len(self.mistakes) > MOST_MISTAKES:
            named.append(f"and {len(self.mistakes) - MOST_MISTAKES} more")
        super().__init__("\n".join(f"{what}: {line}" if what else line for line in named))

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle with the mistakes kept, as process pools need."""
        return (_rebuild, (self.mistakes, self.what))


def _rebuild(mistakes: tuple[Mistake, ...], what: str) -> SpecError:
    return SpecError(mistakes, what=what)


def place(keys: Iterable[Key]) -> str:
    """Keys as a person writes them: ``rules[0].tags``."""
    text = ""
    for key in keys:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            plain = key if key.isprintable() and len(key) <= _SHOWN else shown(key)
            text += f".{plain}" if text else plain
    return text


def shown(value: object) -> str:
    """A value that a stranger wrote, short, printable and on one line."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple | set | frozenset):
        return "a list"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        start = value[:_SHOWN]
        # ascii(): a lone surrogate cannot be printed, and repr() would keep it.
        text = repr(start) if start.isprintable() else ascii(start)
        if len(text) > _SHOWN + 20:
            text = text[: _SHOWN + 20] + text[0]
            return f"{text}…"
        return text if start == value else f"{text}…"
    if isinstance(value, int):
        # Python refuses to write very long numbers.
        return str(value) if abs(value) < 10**18 else "a very large number"
    if isinstance(value, float):
        return str(float(value))
    return f"a value of type {type(value).__name__}"


def text_of(value: object) -> str:
    """The value if it is a text.

    Raises:
        ValueError: it is too long, or something else; without quotes YAML reads ``1.20`` as the
            number 1.2, ``2026-01-01`` as a date and ``{tag}`` as a mapping.
    """
    if isinstance(value, str):
        if len(value) > LONGEST_TEXT:
            raise ValueError(f"{len(value)} characters; at most {LONGEST_TEXT} are allowed")
        return str(value)
    right = "" if value is None or isinstance(value, list | tuple) else "; write it in quotes"
    raise ValueError(f"{shown(value)} is not a text{right}")


def list_of(value: object) -> object:
    """The value if it is a list.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(value, list | tuple):
        return value
    if isinstance(value, str):
        raise ValueError(f"{shown(value)} is not a list; write [{shown(value)}]")  # noqa: TRY004
    raise ValueError(f"{shown(value)} is not a list; write [FIRST, SECOND]")


def explain(error: ValidationError, models: Mapping[str, type[BaseModel]]) -> list[Mistake]:
    """What pydantic found, in our words.

    ``models`` gives the model at each path of names (``""``, ``rules``, ``rules.tags``), whose
    field descriptions say what would be right. Of very many mistakes only the first are explained,
    because the nearest known key of each is looked for: some 25 s for a million on one core.
    """
    errors = error.errors(include_url=False)
    left = len(errors) - MOST_MISTAKES + 1 if len(errors) > MOST_MISTAKES else 0
    found = [
        _explain(
            tuple(one["loc"]), one["type"], one["msg"], one["input"], one.get("ctx", {}), models
        )
        for one in errors[: len(errors) - left]
    ]
    return [*found, Mistake(found[-1].keys, f"and {left} more mistakes")] if left else found


def _explain(
    keys: tuple[Key, ...],
    kind: str,
    message: str,
    value: object,
    context: Mapping[str, object],
    models: Mapping[str, type[BaseModel]],
) -> Mistake:
    names = [key for key in keys if isinstance(key, str)]
    holder = models.get(".".join(names[:-1]))
    fields = _fields(holder) if holder is not None else {}
    right = fields.get(names[-1], "") if names else ""
    write = f"; write {right}" if right else ""
    if kind == "value_error":
        return Mistake(keys, message.removeprefix("Value error, "))
    if kind == "missing":
        return Mistake(keys, f"is missing{write}")
    if kind == "extra_forbidden":
        return Mistake(keys, f"is not known here;{did_you_mean(names[-1][:_SHOWN], list(fields))}")
    if kind == "invalid_key":
        holder = models.get(".".join(names[:-1])) or models.get(".".join(names))
        known = did_you_mean("", list(_fields(holder))) if holder is not None else ""
        return Mistake(keys, f"a key must be a text;{known}")
    if kind in {"model_type", "model_attributes_type", "dict_type"}:
        inner = models.get(".".join(names))
        keys_of = f" with the keys {', '.join(_fields(inner))}" if inner is not None else ""
        return Mistake(keys, f"{shown(value)} is not a mapping{keys_of}{write}")
    if kind in {"too_long", "too_short", "string_too_long"}:
        return Mistake(keys, f"{_size(kind, context)}{write}")
    return Mistake(keys, f"{shown(value)} cannot be used{write or f'; {message[:120].lower()}'}")


def _size(kind: str, context: Mapping[str, object]) -> str:
    """What pydantic says of a list, a mapping or a text that is too long or too short."""
    actual = context.get("actual_length")
    has = "is too long" if actual is None else f"has the length {actual}"
    if kind == "too_short":
        return f"{has}; at least {context.get('min_length')} is needed"
    return f"{has}; at most {context.get('max_length')} are allowed"


def _fields(model: type[BaseModel]) -> dict[str, str]:
    """Each key of a model, as it is written, with what may stand there."""
    fields = model.model_fields.items()
    return {field.alias or name: field.description or "" for name, field in fields}
