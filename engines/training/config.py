"""Configuration of a training: default.yaml, the user's file, and settings in this order."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from squeezedrive.engines.config_files import CONFIGS, find_config
from squeezedrive.engines.files import readable
from squeezedrive.engines.model.network import NETWORKS, Padding
from squeezedrive.engines.model.profile import (
    AnchorProfile,
    InputProfile,
    NetworkName,
    OutputProfile,
    Positive,
    Profile,
)
from squeezedrive.engines.settings import Count, Whole, file_layer, merge, setting_layer
from squeezedrive.kernels.fit import FitMode as FitKind

TRAIN_DEFAULTS = CONFIGS / "training" / "default.yaml"
PATHS = ("network.init", "data.sets.*.root", "evaluate.roots.*")

STRUCTURE = (
    "network.architecture", "network.padding", "network.anchors.shapes", "network.anchors.centres",
    "network.output.layout", "network.output.classes", "network.output.exponential_threshold",
    "network.batch_norm", "network.int8", "network.freeze",
    "optimizer.kind", "optimizer.slow_through",
)  # fmt: skip

Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0)]
Range = tuple[float, float]
HeadStart = Literal["auto", "keep", "new"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TrainNetworkConfig(_Strict):
    """The network, the properties of its weights, and the weights to start from."""

    architecture: NetworkName
    input: InputProfile
    padding: Padding
    anchors: AnchorProfile
    output: OutputProfile
    init: str | None
    init_head: HeadStart
    batch_norm: bool
    int8: bool
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
    """The data sets, and how their pictures are put into the network's input."""

    sets: tuple[SetConfig, ...]
    fit: FitKind
    band_centre: Share
    workers: Whole | None


class AugmentConfig(_Strict):
    """Random changes of the pictures, different in each epoch."""

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
    """The assignment of objects to anchors."""

    method: Literal["published", "iou", "dynamic"]
    min_iou: Share
    top: Count
    radius: Amount


class LossConfig(_Strict):
    """The kind of loss, and the weights of its four parts."""

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
    """The optimiser, which changes weights by their gradients."""

    kind: Literal["sgd", "adamw"]
    rate: Positive
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: Amount
    slow_through: str | None
    slow_share: Share
    clip: Amount
    clip_by: Literal["variable", "global"]


class ScheduleConfig(_Strict):
    """The schedule of the learning rate."""

    kind: Literal["cosine", "steps"]
    warmup: Amount
    final: Share
    every: Count
    factor: Positive


class EvaluateConfig(_Strict):
    """When and on which data sets the network is evaluated."""

    every: Whole
    roots: tuple[str, ...]
    split: str
    patience: Count | None
    pictures: Whole

    @model_validator(mode="after")
    def _evaluated(self) -> EvaluateConfig:
        if self.patience and not self.every:
            raise ValueError("patience: expected null with every 0, because nothing is evaluated")
        return self


class TrainConfig(_Strict):
    """The configuration of a whole training."""

    seed: Annotated[int, Field(ge=0, le=2**63 - 1)]
    epochs: Count
    batch: Count
    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    threads: Whole
    ema: Annotated[float, Field(ge=0, lt=1)]
    checkpoint_seconds: Positive
    licence: str
    network: TrainNetworkConfig
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
        if network.int8 and (network.init is None or network.batch_norm):
            raise ValueError(
                "network.int8: expected network.init and network.batch_norm: false, because weights"
                " learn 8 bits after a training, with the normalisation folded in"
            )
        whole = network.input.size
        for size in (whole, self.window):
            NETWORKS[network.architecture].check_size(*size, network.padding)
        if network.anchors.centres == "even" and self.window != whole:
            raise ValueError(
                "augment.window: expected null, because network.anchors.centres even depend on"
                f" the input's size, got {list(self.window)}; half_stride centres allow windows"
            )
        return self

    @property
    def window(self) -> tuple[int, int]:
        """Width and height of the network's input in training, in pixels."""
        return self.augment.window or self.network.input.size

    def evaluated_sets(self) -> list[SetConfig]:
        """Return the sets to evaluate on; sets that are trained on keep their names and fit."""
        sets = {Path(entry.root).resolve(): entry for entry in reversed(self.data.sets)}
        roots = self.evaluate.roots or (self.data.sets[0].root,)
        return [
            sets.get(Path(root).resolve(), SetConfig(root=root)).model_copy(
                update={"root": root, "split": self.evaluate.split}
            )
            for root in roots
        ]

    def to_yaml(self) -> str:
        """Return the whole configuration as YAML that `load_train_config` reads."""
        values = self.model_dump(mode="json", by_alias=True)
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)

    def profile(self, name: str, parameters: int) -> Profile:
        """Return the profile of the network to be trained."""
        return Profile(
            name=readable(name),
            network=self.network.architecture,
            parameters=parameters,
            input=self.network.input,
            padding=self.network.padding,
            anchors=self.network.anchors,
            output=self.network.output,
            training={},
            evaluation={},
            licence=self.licence,
            fit=self.data.fit,
            band_centre=self.data.band_centre,
        )

    def structure(self) -> dict[str, Any]:
        """Return the settings that a resumed training cannot change, by dotted key."""
        values = self.model_dump(mode="json", by_alias=True)
        return {key: reduce(getitem, key.split("."), values) for key in STRUCTURE}


def load_train_config(path: Path | None, settings: Sequence[tuple[str, Any]] = ()) -> TrainConfig:
    """Merge configs/training/default.yaml, the user's file and settings of the command line.

    Parameters
    ----------
    path : Path or None
        A file that changes some keys; see `find_config`. Paths in it are relative to the file.
    settings : sequence of (key, value)
        Dotted keys and values, which override files. Paths are relative to the working directory.

    Raises
    ------
    ConfigError
        If a file cannot be read, a key is unknown or a value does not fit.
    """
    files = [TRAIN_DEFAULTS] if path is None else [TRAIN_DEFAULTS, find_config(path).absolute()]
    layers = [file_layer(file, PATHS) for file in files]
    layers += [setting_layer((f"--set {key}", key, value), PATHS) for key, value in settings]
    return merge(TrainConfig, layers)
