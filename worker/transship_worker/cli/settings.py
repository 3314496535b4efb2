"""``--set key=value`` of the catalogue commands: from the command line to a component's options."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from transship_config.errors import UsageError
from transship_config.text import did_you_mean
from transship_worker.catalog.model import option_names
from transship_worker.credentials.secret_sources import Kind, kind_of
from transship_worker.flavors.base import BaseContainerRegistry

#: Options that have a place of their own on the command line.
_ELSEWHERE = {"flavor": "--flavor", "uri": "--uri", "name": "NAME"}


def parse_settings(pairs: Sequence[str], flavor: type[BaseContainerRegistry]) -> dict[str, Any]:
    """The options that ``--set`` gives, as they will stand in the catalogue.

    Raises:
        UsageError: no ``key=value``, an unknown or repeated key, or a secret as an argument.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            # Not shown in full: it may be a secret in the wrong place.
            raise UsageError(f"--set {key[:20]!r} is no setting; write --set KEY=VALUE")
        if key in _ELSEWHERE:
            raise UsageError(f"--set {key}: write {_ELSEWHERE[key]} instead")
        if key in found:
            raise UsageError(f"--set {key} is given twice")
        found[key] = _value(key, text, flavor)
    return found


def _value(key: str, text: str, flavor: type[BaseContainerRegistry]) -> Any:
    field = next(
        (field for name, field in flavor.model_fields.items() if (field.alias or name) == key), None
    )
    if field is None and flavor.model_config.get("extra") != "allow":
        names = [name for name in option_names(flavor) if name not in _ELSEWHERE]
        raise UsageError(f"--set: unknown option {key!r};{did_you_mean(key, names)}")
    return _parsed(key, text, field)


def _parsed(key: str, text: str, field: FieldInfo | None) -> Any:
    kind = kind_of(field) if field is not None else None
    if kind in {Kind.SECRET, Kind.TEXT}:
        source, colon, target = text.partition(":")
        if colon and target and source == "env":
            return {"env": target}
        if colon and target and source == "file":
            return {"file": _absolute(target)}
        if kind is Kind.SECRET:
            stdin = ", or --password-stdin" if key == "password" else ""
            raise UsageError(
                f"{key} is a secret, and arguments can be seen by others; write --set "
                f"{key}=env:NAME or --set {key}=file:PATH{stdin}"
            )
        return text
    try:
        value = YAML(typ="safe", pure=True).load(text)
    except YAMLError:
        value = text
    if isinstance(value, bool | list | dict):
        return value
    # Numbers stay texts: an account number or a version is not to be counted with, and an
    # option that is a number reads a text, too.
    return _absolute(text) if kind is Kind.PATH else text


def _absolute(text: str) -> str:
    """The path as it is meant where it is typed; the catalogue lies elsewhere."""
    return str(Path(text).expanduser().absolute())
