"""YAML texts: what is wrong and in which line, and texts that mean harm."""

from __future__ import annotations

import pytest

from transship.model.yaml_text import YamlText


def found(text: str) -> list[str]:
    """``LINE: TEXT`` of each mistake."""
    return [f"{mistake.line}: {mistake.text}" for mistake in YamlText.read(text).mistakes]


def bomb(width: int, levels: int) -> str:
    """A few hundred bytes that stand for ``width ** levels`` values."""
    lines = ["a0: &a0 [" + ", ".join("x" * width) + "]"]
    for level in range(1, levels):
        items = ", ".join([f"*a{level - 1}"] * width)
        lines.append(f"a{level}: &a{level} [{items}]")
    return "\n".join(lines)


def test_every_value_has_the_line_of_its_key() -> None:
    text = YamlText.read("# first\nrules:\n  - from:\n      registry: hub\n  - to: x\n")

    assert text.mistakes == []
    assert text.data == {"rules": [{"from": {"registry": "hub"}}, {"to": "x"}]}
    places = [(), ("rules",), ("rules", 0, "from", "registry"), ("rules", 1, "to")]
    assert [text.line(*keys) for keys in places] == [2, 2, 4, 5]


def test_what_is_missing_has_the_line_of_what_should_hold_it() -> None:
    text = YamlText.read("rules:\n  - from:\n      registry: hub\n")

    assert text.line("rules", 0, "to", "registry") == 2
    assert text.line("name") == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [*/cat]", "1: not valid YAML: a value that starts with '*' must be put in quotes"),
        ("\na: *cat", "2: not valid YAML: a value that starts with '*' must be put in quotes"),
        ("a: & b", "1: not valid YAML: a value that starts with '&' must be put in quotes"),
        ("a: >=1.2,<3", "1: not valid YAML: a value that starts with '>' or '|' must be put in"),
        ("a: {b: >=1.2}", "1: not valid YAML: a value that starts with '>' or '|' must be put in"),
        ("a: @x", "1: not valid YAML: a value that starts with '@', '`' or '%' must be put in"),
        ("a:\n\tb: 1", "2: not valid YAML: found character '\\t' that cannot start a value; "),
        ("a: 1\n---\nb: 2", "2: not valid YAML: but found another document"),
        ("a: 2026-99-99", "1: not valid YAML: ValueError"),
        ("[" * 1000, "1: not valid YAML: RecursionError"),
        ("a: 1\nb: 2\na: 3", "3: 'a' is there twice, first in line 1; keep one"),
        ("a: {b: 1, b: 2}", "1: 'b' is there twice, first in line 1; keep one"),
        ("a: &x [*x]", "1: the anchor '&x' holds itself; take its alias out"),
        ("a: &x\n  <<: *x", "1: the anchor '&x' holds itself; take its alias out"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(text: str, says: str) -> None:
    (mistake,) = found(text)

    assert mistake.startswith(says)


def test_a_small_text_with_aliases_cannot_become_a_huge_value() -> None:
    text = bomb(width=10, levels=9)

    assert len(text) < 1000
    assert found(text) == ["6: more than 1000000 values, aliases counted as what they stand for"]
    assert YamlText.read(text).data is None


def test_aliases_of_a_sensible_size_are_values_like_others() -> None:
    text = YamlText.read(bomb(width=3, levels=3))

    assert text.mistakes == []
    assert text.data["a2"] == [[["x"] * 3] * 3] * 3


def test_no_tag_makes_an_object() -> None:
    assert found("a: !!python/object/apply:os.system [ls]") != []


def test_a_mistake_quotes_nothing_of_the_text() -> None:
    (mistake,) = found("a: {password: hunter22, 'x': [}")

    assert "hunter22" not in mistake
