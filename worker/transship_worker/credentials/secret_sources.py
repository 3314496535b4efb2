"""Values of a component that are written as references: ``{env: NAME}`` or ``{file: PATH}``.

A reference is read when it is used, so that a rotated secret counts at once. A literal is
accepted, kept in a ``SecretStr`` and never shown.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Final, get_args

from pydantic import PlainSerializer, PlainValidator, SecretStr, SerializationInfo, ValidationInfo
from pydantic.fields import FieldInfo

from transship.errors import CredentialsMissing

#: The longest secret that is read from a file; Google's keys have some 2,400. Unit: bytes.
LONGEST: Final = 65_536

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_FORMS: Final = "a text, {env: NAME} or {file: PATH}"


@dataclass(frozen=True, slots=True)
class EnvReference:
    """The value of an environment variable of the worker."""

    env: str

    def read(self, component: str, option: str) -> str:
        """The value now.

        Raises:
            CredentialsMissing: naming component, option and variable.
        """
        value = os.environ.get(self.env, "")
        if not value:
            raise CredentialsMissing(
                f"component {component!r} takes its {option} from the variable {self.env}, "
                "which is not set here; set it for the worker"
            )
        return value


@dataclass(frozen=True, slots=True)
class FileReference:
    """The content of a file of the worker, without the line end that closes it."""

    file: Path

    def read(self, component: str, option: str) -> str:
        """The value now.

        Raises:
            CredentialsMissing: naming component, option and file.
        """
        place = f"component {component!r} takes its {option} from {self.file}"
        try:
            with self.file.open("rb") as stream:
                raw = stream.read(LONGEST + 1)
            text = raw.decode()
        except OSError as error:
            raise CredentialsMissing(f"{place}: {error.strerror or 'cannot be read'}") from None
        except UnicodeDecodeError:
            raise CredentialsMissing(f"{place}, which is not a text file") from None
        if len(raw) > LONGEST:
            raise CredentialsMissing(f"{place}, which is longer than {LONGEST} bytes")
        text = text.removesuffix("\n").removesuffix("\r")
        if not text:
            raise CredentialsMissing(f"{place}, which is empty")
        return text


def _reference(value: dict[Any, Any], info: ValidationInfo) -> EnvReference | FileReference:
    if len(value) != 1:
        raise ValueError(f"{info.field_name} must be {_FORMS}")
    (kind, target), *_ = value.items()
    if kind not in {"env", "file"} or not isinstance(target, str) or not target:
        raise ValueError(f"{info.field_name} must be {_FORMS}")
    if kind == "file":
        return FileReference(local_path(target, info))
    if not _VARIABLE.fullmatch(target):
        raise ValueError(
            f"{info.field_name} must name a variable without '$' or braces: "
            f"{{env: {_variable_for(info)}}}"
        )
    return EnvReference(target)


def _variable_for(info: ValidationInfo) -> str:
    return f"REGISTRY_{(info.field_name or 'password').upper()}"


def _parse(value: object, info: ValidationInfo) -> object:
    """Shared by both types; ``None`` and values that were parsed already pass."""
    if value is None or isinstance(value, EnvReference | FileReference):
        return value
    if isinstance(value, dict):
        return _reference(value, info)
    if isinstance(value, str):
        return value
    # The value is not shown: it may be a secret made of digits.
    raise ValueError(f"{info.field_name} must be {_FORMS}; put a number in quotes")


def _secret(value: object, info: ValidationInfo) -> object:
    if isinstance(value, SecretStr):
        return value
    parsed = _parse(value, info)
    return SecretStr(parsed) if isinstance(parsed, str) else parsed


def expanded(text: str) -> Path:
    """A path in which ``~`` counts; of a user that there cannot be, it stands as it is."""
    try:
        return Path(text).expanduser()
    except (RuntimeError, ValueError):
        return Path(text)


def local_path(text: str, info: ValidationInfo) -> Path:
    """A path as the catalogue gives it: ``~`` counts, and it is relative to the catalogue."""
    folder = (info.context or {}).get("folder")
    path = expanded(text)
    return path if folder is None else folder / path


def _path(value: object, info: ValidationInfo) -> object:
    if value is None or isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value:
        raise ValueError(f"{info.field_name} must be the path of a file")
    return local_path(value, info)


def _shown(value: object, info: SerializationInfo) -> object:
    """What stands in a dump: a reference as it is written, never a literal secret in JSON."""
    if isinstance(value, EnvReference):
        return {"env": value.env}
    if isinstance(value, FileReference):
        return {"file": str(value.file)}
    return str(value) if isinstance(value, SecretStr) and info.mode == "json" else value


class Kind(Enum):
    """Marks the type of an option, for the command line."""

    SECRET = "secret"  # noqa: S105 - the word, not one
    TEXT = "text"
    PATH = "path"


#: A secret option of a component.
Secret = Annotated[
    SecretStr | EnvReference | FileReference,
    PlainValidator(_secret),
    PlainSerializer(_shown),
    Kind.SECRET,
]
#: An option that is no secret by itself but may be a reference, too.
Text = Annotated[
    str | EnvReference | FileReference, PlainValidator(_parse), PlainSerializer(_shown), Kind.TEXT
]
#: A file of the worker, relative to the catalogue.
LocalPath = Annotated[Path, PlainValidator(_path), Kind.PATH]


def kind_of(field: FieldInfo) -> Kind | None:
    """How an option is marked; ``None``: an ordinary one."""
    waiting: list[Any] = [field.annotation, *field.metadata]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Kind):
            return part
        waiting.extend(getattr(part, "__metadata__", ()))
        waiting.extend(get_args(part))
    return None


def resolve(value: object, component: str, option: str) -> str | None:
    """The text behind an option of type ``Secret`` or ``Text``; ``None`` and ``""``: not set.

    Raises:
        CredentialsMissing: an unset variable or a file that cannot be read.
    """
    if isinstance(value, EnvReference | FileReference):
        return value.read(component, option)
    if isinstance(value, SecretStr):
        return value.get_secret_value() or None
    return value if isinstance(value, str) and value else None
