"""Keys and values of a training's configuration, before they are validated."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml

from squeezedrive.engines.errors import ConfigError


def parse_setting(text: str) -> tuple[str, Any]:
    """Split "key=value"; the value is read as YAML.

    Raises
    ------
    ConfigError
        If it is not of this form.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set: expected KEY=VALUE, got {text!r}")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"--set {text}: {value!r} is not valid YAML") from None


def read_file(path: Path) -> dict[str, Any]:
    """Read a file of keys and values.

    Raises
    ------
    ConfigError
        If it cannot be read or is something else.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the configuration: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected keys with values, got {type(values).__name__}")
    return values


def resolve_paths(values: dict[str, Any], folder: Path) -> None:
    """Make paths absolute that are relative to a folder; what is no path is left to be checked."""
    network, data, evaluate = (values.get(key) or {} for key in ("network", "data", "evaluate"))
    if isinstance(network, dict) and isinstance(network.get("init"), str):
        network["init"] = str(folder / network["init"])
    if isinstance(data, dict):
        sets = data.get("sets")
        for entry in sets if isinstance(sets, list | tuple) else []:
            if isinstance(entry, dict) and isinstance(entry.get("root"), str):
                entry["root"] = str(folder / entry["root"])
    if isinstance(evaluate, dict) and isinstance(evaluate.get("roots"), list):
        evaluate["roots"] = [str(folder / str(root)) for root in evaluate["roots"]]


def leaves(values: dict[str, Any], prefix: str = "") -> list[str]:
    """Return the dotted keys that have values of their own."""
    names = []
    for key, value in values.items():
        nested = leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else []
        names += nested or [f"{prefix}{key}"]
    return names


def merge(
    target: dict[str, Any], values: dict[str, Any], origin: str, known: list[str], prefix: str = ""
) -> None:
    """Change the values of a configuration.

    Parameters
    ----------
    target : dict
        The configuration; is changed.
    values : dict
        What becomes of some of its keys.
    origin : str
        Where the values come from, for messages.
    known : list of str
        All dotted keys, for "did you mean".
    prefix : str
        Dotted key of `target` in the whole configuration.

    Raises
    ------
    ConfigError
        If there is no such key, or keys were expected and a value came.
    """
    for key, value in values.items():
        name = f"{prefix}{key}"
        if key not in target:
            near = difflib.get_close_matches(name, known, 1)
            hint = f", did you mean {near[0]}?" if near else ""
            raise ConfigError(f"{origin}: unknown key {name}{hint}")
        if not isinstance(target[key], dict):
            target[key] = value
        elif isinstance(value, dict):
            merge(target[key], value, origin, known, f"{name}.")
        else:
            keys = ", ".join(target[key])
            raise ConfigError(f"{origin}: {name}: expected keys ({keys}), got {value!r}")
