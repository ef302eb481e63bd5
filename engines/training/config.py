"""Configuration of a training: configs/training/default.yaml, a file that changes it, settings."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from engines.errors import ConfigError, describe_validation
from engines.network import NETWORKS, Padding
from engines.profile import AnchorProfile, InputProfile, NetworkName, OutputProfile, Profile
from kernels.fit import Kind as FitKind

CONFIGS = Path(__file__).resolve().parent.parent.parent / "configs" / "training"
BASE = CONFIGS / "default.yaml"

Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Range = tuple[float, float]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class NetworkConfig(_Strict):
    """The network, what belongs to its weights, and what they start from."""

    architecture: NetworkName
    input: InputProfile
    padding: Padding
    anchors: AnchorProfile
    output: OutputProfile
    init: str | None
    batch_norm: bool
    dropout: Annotated[float, Field(ge=0, lt=1)]
    freeze: str | None
    confidence_prior: Annotated[float, Field(gt=0, lt=1)]


class SetConfig(_Strict):
    """A data set to train on."""

    root: str
    split: str = "train"
    weight: Positive = 1.0
    labelled: tuple[str, ...] | None = None
    fit: FitKind | None = None
    names: dict[str, str] = {}


class DataConfig(_Strict):
    """Which pictures, and how they are put into the network's input."""

    sets: tuple[SetConfig, ...]
    fit: FitKind
    band_centre: Share
    workers: Annotated[int, Field(ge=0)] | None


class AugmentConfig(_Strict):
    """How pictures are changed from one epoch to the next."""

    window: tuple[Count, Count] | None
    aim: Share
    zoom: Range
    aspect: Amount
    drift: tuple[Amount, Amount]
    flip: Share
    mosaic: Share
    paste: Share
    brightness: Amount
    contrast: Amount
    saturation: Amount
    hue: Amount
    balance: Amount
    night: Share
    jpeg: Share
    min_size: Amount
    min_visible: Share

    @model_validator(mode="after")
    def _ordered(self) -> AugmentConfig:
        if not 0 < self.zoom[0] <= self.zoom[1]:
            raise ValueError(f"zoom: expected two factors, the smaller first, got {self.zoom}")
        return self


class AssignConfig(_Strict):
    """Which anchors have to find an object."""

    method: Literal["published", "iou", "dynamic"]
    min_iou: Share
    top: Count
    radius: Amount


class LossConfig(_Strict):
    """Kind of loss, and the weights of its four parts."""

    model_config = ConfigDict(populate_by_name=True)

    kind: Literal["published", "iou"]
    class_: Annotated[float, Field(ge=0, alias="class")]
    confidence_positive: Amount
    confidence_negative: Amount
    box: Amount
    focal: Amount
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    box_iou: Literal["giou", "ciou"]


class OptimizerConfig(_Strict):
    """How weights follow their gradients."""

    kind: Literal["sgd", "adamw"]
    rate: Positive
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: Amount
    slow_through: str | None
    slow_share: Share
    clip: Amount
    clip_by: Literal["variable", "global"]


class ScheduleConfig(_Strict):
    """How the learning rate changes."""

    kind: Literal["cosine", "steps"]
    warmup: Amount
    final: Share
    every: Count
    factor: Positive


class EvaluateConfig(_Strict):
    """When the network is evaluated, and on what."""

    every: Annotated[int, Field(ge=0)]
    roots: tuple[str, ...]
    split: str
    pictures: Annotated[int, Field(ge=0)]


class TrainConfig(_Strict):
    """A whole training."""

    seed: Annotated[int, Field(ge=0)]
    epochs: Count
    batch: Count
    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    threads: Annotated[int, Field(ge=0)]
    ema: Annotated[float, Field(ge=0, lt=1)]
    checkpoint_seconds: Positive
    licence: str
    network: NetworkConfig
    data: DataConfig
    augment: AugmentConfig
    assign: AssignConfig
    loss: LossConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    evaluate: EvaluateConfig

    @model_validator(mode="after")
    def _possible(self) -> TrainConfig:
        network = self.network
        whole = (network.input.width, network.input.height)
        for size in (whole, self.window):
            NETWORKS[network.architecture].check_size(*size, network.padding)
        if network.anchors.centres == "even" and self.window != whole:
            raise ValueError(
                "augment.window: expected null with network.anchors.centres even, which depend on"
                f" the input's size, got {list(self.window)}; half_stride centres allow windows"
            )
        return self

    @property
    def window(self) -> tuple[int, int]:
        """Width and height of what the network sees in training, in pixels."""
        return self.augment.window or (self.network.input.width, self.network.input.height)

    def to_yaml(self) -> str:
        """Return the whole configuration as YAML that `load_config` reads."""
        values = self.model_dump(mode="json", by_alias=True)
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)

    def profile(self, name: str, parameters: int) -> Profile:
        """Return the profile of the network to be trained."""
        return Profile(
            name=name,
            network=self.network.architecture,
            parameters=parameters,
            input=self.network.input,
            padding=self.network.padding,
            anchors=self.network.anchors,
            output=self.network.output,
            training={},
            evaluation={},
            licence=self.licence,
        )


def load_config(path: Path | None, settings: Sequence[tuple[str, Any]] = ()) -> TrainConfig:
    """Merge configs/training/default.yaml, the user's file and settings of the command line.

    Parameters
    ----------
    path : Path or None
        A file that changes some keys. Relative paths in it are relative to it.
    settings : sequence of (key, value)
        Dotted keys; they win over files.

    Raises
    ------
    ConfigError
        If a file cannot be read, a key is unknown or a value does not fit.
    """
    merged = _read(BASE)
    known = _leaves(merged)
    origin = str(BASE)
    if path is not None:
        values = _read(path)
        _resolve(values, path.parent.resolve())
        _merge(merged, values, str(path), known)
        origin = str(path)
    for key, value in settings:
        nested: Any = value
        for part in reversed(key.split(".")):
            nested = {part: nested}
        _merge(merged, nested, f"--set {key}", known)
    try:
        return TrainConfig.model_validate(merged)
    except ValidationError as error:
        raise ConfigError(f"{origin}: {describe_validation(error)}") from None


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


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the configuration: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected keys with values, got {type(values).__name__}")
    return values


def _resolve(values: dict[str, Any], folder: Path) -> None:
    """Make the paths of a file absolute that are relative to it; others are left to be checked."""
    network, data, evaluate = (values.get(key) or {} for key in ("network", "data", "evaluate"))
    if isinstance(network, dict) and isinstance(network.get("init"), str):
        network["init"] = str(folder / network["init"])
    if isinstance(data, dict):
        for entry in data.get("sets") or []:
            if isinstance(entry, dict) and isinstance(entry.get("root"), str):
                entry["root"] = str(folder / entry["root"])
    if isinstance(evaluate, dict) and isinstance(evaluate.get("roots"), list):
        evaluate["roots"] = [str(folder / str(root)) for root in evaluate["roots"]]


def _leaves(values: dict[str, Any], prefix: str = "") -> list[str]:
    names = []
    for key, value in values.items():
        nested = _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else []
        names += nested or [f"{prefix}{key}"]
    return names


def _merge(
    target: dict[str, Any], values: dict[str, Any], origin: str, known: list[str], prefix: str = ""
) -> None:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if key not in target:
            near = difflib.get_close_matches(name, known, 1)
            hint = f", did you mean {near[0]}?" if near else ""
            raise ConfigError(f"{origin}: unknown key {name}{hint}")
        if not isinstance(target[key], dict):
            target[key] = value
        elif isinstance(value, dict):
            _merge(target[key], value, origin, known, f"{name}.")
        else:
            keys = ", ".join(target[key])
            raise ConfigError(f"{origin}: {name}: expected keys ({keys}), got {value!r}")
