"""One target under libFuzzer, through Atheris; its arguments are libFuzzer's.

The branches of Transship's own modules are counted, which is what guides the changes.
"""

from __future__ import annotations

import sys

import atheris


def main(name: str, arguments: list[str]) -> None:
    """Fuzz a target; this process ends with it."""
    with atheris.instrument_imports(
        include=["transship_config", "transship", "transship_worker"], enable_loader_override=False
    ):
        from tests.fuzz.targets import TARGETS
    from tests.fuzz.mutate import mutated

    target = TARGETS[name]

    def change(data: bytes, most: int, seed: int) -> bytes:
        head, rest = data[: target.head], data[target.head :]
        if seed % 16 == 0:
            return bytes(atheris.Mutate(data, most))
        made = mutated(rest, most - target.head, seed, words=target.words, bytewise=atheris.Mutate)
        return head.ljust(target.head, b"\0") + made

    options = {"custom_mutator": change} if target.is_json else {}
    atheris.Setup([sys.argv[0], *arguments], target.run, **options)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
