"""Settings: YAML files and settings of the command line, merged in layers and validated.

The keys are those of a pydantic model: one for a run of the pipeline, one for a training.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, Field, SecretStr, ValidationError

from squeezedrive.engines.errors import ConfigError, describe_validation
from squeezedrive.engines.yaml_text import load_yaml

Setting = tuple[str, str, Any]
"""The setting as the user wrote it, its dotted key, and its value."""

Model = TypeVar("Model", bound=BaseModel)
# Libraries take these as numbers of 32 bits.
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Whole = Annotated[int, Field(ge=0, le=2**31 - 1)]


@dataclass(frozen=True)
class Layer:
    """Settings that come from one place, and how to name that place to the user."""

    origin: str
    values: dict[str, Any]


def parse_setting(text: str, option: str = "--set") -> Setting:
    """Split the text "key=value" of an option; the value is read as YAML.

    Raises
    ------
    ConfigError
        If there is no "=" or the value is not YAML; see `load_yaml`.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"{option}: expected KEY=VALUE, got {text!r}")
    try:
        return f"{option} {text}", key, load_yaml(value, key)
    except yaml.YAMLError:
        raise ConfigError(f"{option} {text}: the value is not valid YAML") from None


def file_layer(path: Path, paths: Sequence[str] = ()) -> Layer:
    """Read a file of keys and values.

    Parameters
    ----------
    path : Path
        A YAML file; an empty one sets nothing.
    paths : sequence of str
        Dotted keys whose values are paths relative to the file; `*` stands for each item of a list.

    Raises
    ------
    ConfigError
        If the file cannot be read or does not hold keys with values.
    """
    try:
        values = load_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the configuration: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected keys with values, got {type(values).__name__}")
    for key in paths:
        _resolve(values, key.split("."), path.parent)
    return Layer(str(path), values)


def setting_layer(setting: Setting, paths: Sequence[str] = ()) -> Layer:
    """Make a layer of a single setting; paths in it are relative to the working directory."""
    origin, key, value = setting
    value = deepcopy(value)
    for part in reversed(key.split(".")):
        value = {part: value}
    for path in paths:
        _resolve(value, path.split("."), Path.cwd())
    return Layer(origin, value)


def merge(model: type[Model], layers: Sequence[Layer]) -> Model:
    """Merge layers and validate the result; later layers override earlier ones.

    Raises
    ------
    ConfigError
        If a key is unknown or a value does not fit its key. The message names the place, the key,
        what was expected and what came, and the nearest valid key.
    """
    for layer in layers:
        _check_keys(layer, layer.values, model, list(_leaves(model)))
    values = _merged(layers)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        origin = _culprit(model, layers, _complaints(error)[0])
        first = error.errors(include_url=False)[0]
        path = [str(part) for part in first["loc"]]
        if _is_secret(model, path):
            raise ConfigError(
                f"{origin.partition('=')[0]}: {'.'.join(path)}: expected a valid string, got"
                f" {type(first['input']).__name__}; put it in double quotes"
            ) from None
        raise ConfigError(f"{origin}: {describe_validation(error, values)}") from None


def _resolve(values: Any, key: Sequence[str], folder: Path) -> None:
    """Make the paths at a key relative to a folder; validation later rejects other values."""
    first, *rest = key
    places: Sequence[Any] = ()
    if isinstance(values, dict):
        places = [first] if first in values else []
    elif isinstance(values, list) and first == "*":
        places = range(len(values))
    for place in places:
        if rest:
            _resolve(values[place], rest, folder)
        elif isinstance(values[place], str):
            values[place] = str(folder / values[place])


def _merged(layers: Sequence[Layer]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for layer in layers:
        _merge(merged, layer.values)
    return merged


def _merge(target: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, dict):
            there = target.get(key)
            target[key] = there if isinstance(there, dict) else {}
            _merge(target[key], value)
        else:
            target[key] = value


def _fields(model: type[BaseModel]) -> dict[str, Any]:
    """Return the type of each key of a model."""
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _is_group(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _leaves(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, kind in _fields(model).items():
        if _is_group(kind):
            yield from _leaves(kind, f"{prefix}{name}.")
        else:
            yield prefix + name


def _is_secret(model: type[BaseModel], path: Sequence[str]) -> bool:
    """Return whether the value at a key is a secret, which no message may show."""
    for part in path:
        kind: Any = _fields(model).get(part)
        if not _is_group(kind):
            return SecretStr in (kind, *get_args(kind))
        model = kind
    return False


def _check_keys(
    layer: Layer,
    values: Mapping[Any, Any],
    model: type[BaseModel],
    known: Sequence[str],
    prefix: str = "",
) -> None:
    fields = _fields(model)
    for key, value in values.items():
        name = f"{prefix}{key}"
        if key not in fields:
            while isinstance(value, dict) and value:  # also name the key in an unknown group
                inner, value = next(iter(value.items()))
                name = f"{name}.{inner}"
            # `treshold` is taken for detect.threshold, in whatever group the user wrote it.
            by_leaf = {leaf.rsplit(".", 1)[-1]: leaf for leaf in known}
            near = difflib.get_close_matches(name, known, 1) or [
                by_leaf[leaf]
                for leaf in difflib.get_close_matches(name.rsplit(".", 1)[-1], by_leaf, 1)
            ]
            hint = f", did you mean {near[0]}?" if near else f"; valid are {', '.join(fields)}"
            raise ConfigError(f"{layer.origin}: unknown key {name}{hint}")
        if _is_group(fields[key]):
            if not isinstance(value, dict):
                keys = ", ".join(_fields(fields[key]))
                raise ConfigError(f"{layer.origin}: {name}: expected keys ({keys}), got {value!r}")
            _check_keys(layer, value, fields[key], known, f"{name}.")


def _complaints(error: ValidationError) -> list[tuple[Any, ...]]:
    return [
        (one["loc"], one["msg"], None if isinstance(one["input"], dict) else repr(one["input"]))
        for one in error.errors(include_url=False)
    ]


def _culprit(model: type[BaseModel], layers: Sequence[Layer], complaint: tuple[Any, ...]) -> str:
    """Return the origin of the layer that causes this validation error."""
    for count in range(len(layers) - 1, 0, -1):
        try:
            model.model_validate(_merged(layers[:count]))
        except ValidationError as error:
            if complaint in _complaints(error):
                continue
        return layers[count].origin
    return layers[0].origin
