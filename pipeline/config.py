"""Configuration: YAML files and command-line settings, merged in layers and validated."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_core import PydanticCustomError

from squeezedrive.engines.backends.cpu.options import CpuOptions
from squeezedrive.engines.backends.cuda.options import CudaOptions
from squeezedrive.engines.backends.select import CHOICES
from squeezedrive.engines.config_files import CONFIGS, find_config
from squeezedrive.engines.errors import ConfigError
from squeezedrive.kernels.fit import FitMode

BASE = CONFIGS / "file.yaml"
MOST_EVERY = 5  # so many frames wait for each other, in every place of the queues

Fraction01 = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, le=10**7)]
Count = Annotated[int, Field(ge=1)]
Model = TypeVar("Model", bound=BaseModel)


def _known_backend(name: str) -> str:
    if name not in CHOICES:
        *others, last = map(repr, CHOICES)
        raise PydanticCustomError("backend", f"{', '.join(others)} or {last}")
    return name


BackendChoice = Annotated[str, AfterValidator(_known_backend)]


class _Strict(BaseModel):
    # Strict: `true` is no threshold and "0.3" no number.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


class FitConfig(_Strict):
    """How a picture is put into the network's input."""

    mode: FitMode
    band_centre: Fraction01


class DetectConfig(_Strict):
    """Which boxes are kept."""

    threshold: Fraction01
    top_n: Count
    nms_iou: Fraction01
    nms: Literal["greedy", "original"]
    classes: list[str]


class QueueConfig(_Strict):
    """How frames wait for each other."""

    policy: Literal["auto", "lossless", "latest", "bounded_age"]
    depth: Count
    max_age: Annotated[float, Field(gt=0)]
    slots: Count
    batch: Annotated[int, Field(ge=0)]


class SourceConfig(_Strict):
    """Which part of the source is read, and how long to wait for it."""

    start: Seconds
    frames: Count | None
    fps: Annotated[float, Field(ge=0.001, le=1000)] | None
    open_timeout: Annotated[float, Field(gt=0)]
    read_timeout: Annotated[float, Field(gt=0)]
    reconnect: Seconds | None
    decode: Literal["auto", "nvdec", "cpu"]


class VideoConfig(_Strict):
    """How the annotated video is encoded."""

    write: bool
    preset: Literal[
        "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower"
    ]
    crf: Annotated[int, Field(ge=1, le=51)]  # 0, lossless, is a profile browsers do not play
    threads: Annotated[int, Field(ge=0)]


class RecordConfig(_Strict):
    """How recordings are split, limited, and searched for what is interesting."""

    segment: Annotated[float, Field(ge=1)] | None
    keep: Annotated[float, Field(gt=0)] | None
    events: list[str]
    before: Annotated[float, Field(ge=0, le=600)]
    after: Annotated[float, Field(ge=0, le=600)]


class TrackConfig(_Strict):
    """Whether objects are followed from frame to frame, and how often the network looks."""

    enabled: bool
    every: Annotated[int, Field(ge=1, le=MOST_EVERY)]

    @property
    def follows(self) -> bool:
        """Whether there is a tracker: frames that the network does not see need one."""
        return self.enabled or self.every > 1


class PreviewConfig(_Strict):
    """The live page."""

    address: str | int | None
    token: SecretStr | None


class DrawConfig(_Strict):
    """What is drawn besides the boxes."""

    status: bool


class ProfileConfig(_Strict):
    """What --profile measures."""

    warmup: Seconds


class Config(_Strict):
    """Everything that can be configured; the meaning of each key stands in configs/file.yaml."""

    network: str
    backend: BackendChoice
    cpu: CpuOptions  # groups of BackendOptions are handed to the back ends as they are
    cuda: CudaOptions
    fit: FitConfig
    detect: DetectConfig
    queue: QueueConfig
    source: SourceConfig
    video: VideoConfig
    record: RecordConfig
    track: TrackConfig
    preview: PreviewConfig
    draw: DrawConfig
    profile: ProfileConfig


class InputConfig(_Strict):
    """Size of the network's input in pixels."""

    width: Count
    height: Count


class NetworkConfig(_Strict):
    """Which network runs; the meaning of each key stands in configs/squeezedet.yaml."""

    architecture: str
    weights: str
    classes: list[str]
    input: InputConfig


@dataclass(frozen=True)
class _Layer:
    """Settings that come from one place, and how to name that place to the user."""

    origin: str
    values: dict[str, Any]


def load_config(path: Path | None = None, settings: Sequence[tuple[str, str, Any]] = ()) -> Config:
    """Merge configs/file.yaml, the user's file and settings from the command line.

    Parameters
    ----------
    path : Path, optional
        A file that changes some keys of configs/file.yaml, as `find_config` finds it.
    settings : sequence of (origin, key, value)
        What the command line changes on top: how the user wrote it, the dotted key, the value.

    Raises
    ------
    ConfigError
        If a file cannot be read, a key is unknown, or a value does not fit its key. The message
        names the place, the key, what was expected and what came, and the nearest valid key.
    """
    layers = [_read(BASE)]
    if path is not None:
        layers.append(_read(find_config(path)))
    for layer in layers:
        network = layer.values.get("network")
        if isinstance(network, str):
            layer.values["network"] = str(find_config(Path(network), Path(layer.origin).parent))
    layers += [_Layer(origin, _nest(key, value)) for origin, key, value in settings]
    merged: dict[str, Any] = {}
    for layer in layers:
        _check_keys(layer, layer.values, Config, Config)
        _merge(merged, layer.values)
    return _validate(Config, merged, layers)


def load_network_config(path: Path) -> NetworkConfig:
    """Read the description of a network; paths in it come back relative to the current folder.

    Raises
    ------
    ConfigError
        As `load_config`.
    """
    layer = _read(find_config(path))
    weights = layer.values.get("weights")
    if isinstance(weights, str):
        layer.values["weights"] = str(Path(layer.origin).parent / weights)
    _check_keys(layer, layer.values, NetworkConfig, NetworkConfig)
    return _validate(NetworkConfig, layer.values, [layer])


def parse_setting(text: str, option: str = "--set") -> tuple[str, str, Any]:
    """Split "key=value" as given to an option; the value is read as YAML.

    Raises
    ------
    ConfigError
        If there is no "=" or the value is not YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"{option}: expected KEY=VALUE, got {text!r}")
    try:
        return f"{option} {text}", key, yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"{option} {text}: the value is not valid YAML") from None


def parse_number(text: str) -> int | float | str:
    """Read the value of an option as a number if it is one, in decimal notation."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _read(path: Path) -> _Layer:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the configuration: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = " ".join(str(error).split())
        raise ConfigError(f"{path}: not valid YAML: {line}") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected keys with values, got {type(values).__name__}")
    return _Layer(str(path), values)


def _nest(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value  # type: ignore[no-any-return]


def _merge(target: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        else:
            target[key] = dict(value) if isinstance(value, dict) else value


def _leaves(model: type[BaseModel], prefix: str = "") -> list[str]:
    names = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            names += _leaves(kind, f"{prefix}{name}.")
        else:
            names.append(prefix + name)
    return names


def _check_keys(
    layer: _Layer,
    values: Mapping[Any, Any],
    model: type[BaseModel],
    root: type[BaseModel],
    prefix: str = "",
) -> None:
    root_keys = _leaves(root)
    for key, value in values.items():
        field = model.model_fields.get(str(key))
        name = f"{prefix}{key}"
        if field is None:
            while isinstance(value, dict) and value:  # name the key in an unknown group, too
                inner, value = next(iter(value.items()))
                name = f"{name}.{inner}"
            # Someone who writes `treshold` means detect.threshold, wherever it stands.
            by_leaf = {leaf.rsplit(".", 1)[-1]: leaf for leaf in root_keys}
            near = difflib.get_close_matches(name, root_keys, 1) or [
                by_leaf[leaf]
                for leaf in difflib.get_close_matches(name.rsplit(".", 1)[-1], by_leaf, 1)
            ]
            hint = f", did you mean {near[0]}?" if near else f"; valid are {', '.join(root_keys)}"
            raise ConfigError(f"{layer.origin}: unknown key {name}{hint}")
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            if not isinstance(value, dict):
                keys = ", ".join(kind.model_fields)
                raise ConfigError(
                    f"{layer.origin}: {name}: expected a group of keys ({keys}), got {value!r}"
                )
            _check_keys(layer, value, kind, root, f"{name}.")


def _validate(model: type[Model], merged: dict[str, Any], layers: Sequence[_Layer]) -> Model:
    try:
        return model.model_validate(merged)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        # Union members ("int", "none") are part of pydantic's location but not of the key.
        path = [str(part) for part in first["loc"]]
        while path and _look_up(merged, path) is _MISSING:
            path.pop()
        key = ".".join(path) or str(first["loc"][0])
        if first["type"] == "missing":
            raise ConfigError(f"{layers[-1].origin}: {key} is missing") from None
        origin = next(
            (
                layer.origin
                for layer in reversed(layers)
                if _look_up(layer.values, path) is not _MISSING
            ),
            layers[0].origin,
        )
        message = first["msg"].removeprefix("Input should be ")
        value = _look_up(merged, path)
        got = repr(value)
        if key == _SECRET:
            origin = origin.partition("=")[0]
            got = f"{type(value).__name__}; put it in double quotes"
        raise ConfigError(f"{origin}: {key}: expected {message}, got {got}") from None


_SECRET = "preview.token"  # the key whose value no message may show
_MISSING = object()


def _look_up(values: Any, path: Sequence[str]) -> Any:
    for part in path:
        if isinstance(values, dict) and part in values:
            values = values[part]
        else:
            return _MISSING
    return values
