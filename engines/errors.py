"""Errors that a user can act on: messages give what was expected, what came, what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError


MAX_SHOWN = 120  # characters of a value in a message


class UserError(Exception):
    """The user's input cannot be used. Shown in one line, without traceback; exit code 2."""


class ConfigError(UserError, ValueError):
    """A configuration key or value is wrong."""


class WeightsError(UserError, ValueError):
    """A weights file or its profile is missing or damaged, or does not fit the request."""


class DatasetError(UserError, ValueError):
    """A data set is incomplete, damaged, or cannot be made."""


class NetworkError(UserError, ValueError):
    """A network cannot read an input of this size."""


class GpuLost(UserError, RuntimeError):
    """The GPU does not answer any more; all that this process holds there is lost."""


class BackendUnavailable(UserError, RuntimeError):
    """A back end was asked for by name and cannot run on this machine."""


class PackageMissing(UserError, ImportError):
    """An optional package is needed and cannot be imported."""


class GpuMemoryError(UserError, MemoryError):
    """The GPU's memory, or the host memory that the GPU can access, is too small."""


def describe_validation(error: ValidationError, values: Mapping[str, Any] | None = None) -> str:
    """Return pydantic's first error as one line: key, what was expected, what came.

    With the validated `values`, the key contains no members of unions, which pydantic adds to it.
    """
    first = error.errors(include_url=False)[0]
    if first["type"] == "json_invalid":
        return str(first["msg"])  # what came is the whole file
    path: Sequence[str | int] = first["loc"]
    if first["type"] == "missing":
        return f"{'.'.join(map(str, path))} is missing"
    if values is not None:
        path = _present(values, path)
    key = ".".join(map(str, path)) or "file"
    if first["type"] == "extra_forbidden":
        return f"unknown key {key}"
    if first["type"] in ("tuple_type", "list_type"):
        return f"{key}: expected a list, got {shortened(repr(first['input']))}"
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "value_error" and not first["loc"]:
        return message  # it is about keys that contradict each other
    if message.startswith("Input should be "):
        message = message.replace("Input should be", "expected", 1)
    got = first["input"]
    shown = "" if isinstance(got, dict | list) else f", got {shortened(repr(got))}"
    return f"{key}: {message[0].lower()}{message[1:]}{shown}"


def shortened(text: str) -> str:
    """Return a text that came from outside, cut off where it is longer than a line."""
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def _present(values: Any, path: Sequence[str | int]) -> Sequence[str | int]:
    """Return the longest first part of a path that exists in the values."""
    for depth, part in enumerate(path):
        try:
            values = values[part]
        except (LookupError, TypeError):
            return path[:depth]
    return path
