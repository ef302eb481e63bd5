"""The configuration of a run: configs/file.yaml, a file of changes, settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from squeezedrive.engines.backends.cpu.options import CpuOptions
from squeezedrive.engines.backends.cuda.options import CudaOptions
from squeezedrive.engines.backends.select import CHOICES
from squeezedrive.engines.config_files import CONFIGS, find_config
from squeezedrive.engines.settings import Count, Setting, Whole, file_layer, merge, setting_layer
from squeezedrive.kernels.fit import FitMode
from squeezedrive.pipeline.core.source import SourceKind
from squeezedrive.pipeline.stages.feed import QueueOptions

DEFAULTS = CONFIGS / "file.yaml"
MOST_EVERY = 5  # so many frames wait together in each place of a queue

Fraction01 = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, le=10**7)]
Preset = Literal[  # of libx264, the fastest first
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower"
]


def _known_backend(name: str) -> str:
    if name not in CHOICES:
        *others, last = map(repr, CHOICES)
        raise PydanticCustomError("backend", f"Input should be {', '.join(others)} or {last}")
    return name


BackendChoice = Annotated[str, AfterValidator(_known_backend)]


class _Strict(BaseModel):
    # Strict: `true` is not a threshold and "0.3" is not a number.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


class FitConfig(_Strict):
    """How a picture is fitted into the network's input."""

    mode: FitMode
    band_centre: Fraction01


class DetectConfig(_Strict):
    """Which boxes are kept."""

    threshold: Fraction01
    class_thresholds: dict[str, Fraction01]
    top_n: Count
    nms_iou: Fraction01
    nms: Literal["greedy", "original"]
    classes: list[str]


class SourceConfig(_Strict):
    """Which part of the source is read, and how long to wait for it."""

    start: Seconds
    track_index: Whole | Literal["all"] | None
    frames: Count | None
    fps: Annotated[float, Field(ge=0.001, le=1000)] | None
    open_timeout: Annotated[float, Field(gt=0)]
    read_timeout: Annotated[float, Field(gt=0)]
    reconnect: Seconds | None
    decode: Literal["auto", "nvdec", "cpu"]
    gps: Annotated[str, Field(min_length=1)]
    gps_offset: Annotated[float, Field(ge=-(10**9), le=10**9)] | None


class VideoConfig(_Strict):
    """Whether there is an annotated video, and how it is encoded."""

    write: bool = True
    encoder: Literal["auto", "x264", "nvenc"] = "auto"
    preset: Preset = "superfast"
    # 0, lossless, is a profile browsers do not play.
    crf: Annotated[int, Field(ge=1, le=51)] = 23
    threads: Whole = 0


class RecordConfig(_Strict):
    """How recordings are split and limited, and which events are kept as clips."""

    segment: Annotated[float, Field(ge=1)] | None
    keep: Annotated[float, Field(gt=0)] | None
    events: list[str]
    before: Annotated[float, Field(ge=0, le=600)]
    after: Annotated[float, Field(ge=0, le=600)]


class TrackConfig(_Strict):
    """Whether objects are tracked, and how many frames the network sees."""

    enabled: bool | Literal["auto"]
    every: Annotated[int, Field(ge=1, le=MOST_EVERY)]

    @model_validator(mode="after")
    def _only_tracked_are_skipped(self) -> TrackConfig:
        if self.enabled is False and self.every > 1:
            raise PydanticCustomError(
                "untracked",
                "expected every: 1 with enabled: false, got {every}: frames that the network skips"
                " need tracked objects",
                {"every": self.every},
            )
        return self

    @property
    def may_track(self) -> bool:
        """Whether objects of some kind of source are tracked."""
        return self.enabled is not False

    def of(self, kind: SourceKind) -> TrackConfig:
        """Return these options with "auto" decided for a kind of source."""
        if self.enabled != "auto":
            return self
        follow = kind in ("file", "demo") or self.every > 1
        return self.model_copy(update={"enabled": follow})


class PreviewConfig(_Strict):
    """The live page."""

    address: str | int | None
    token: SecretStr | None
    tls: str | None


class DrawConfig(_Strict):
    """What is drawn besides the boxes."""

    status: bool


class ProfileConfig(_Strict):
    """What --profile measures."""

    warmup: Seconds


class Config(_Strict):
    """Everything that can be configured; configs/file.yaml explains each key."""

    network: str
    backend: BackendChoice
    cpu: CpuOptions  # groups of BackendOptions are handed to the back ends as they are
    cuda: CudaOptions
    fit: FitConfig
    detect: DetectConfig
    queue: QueueOptions
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
    """Which network runs; configs/squeezedet.yaml explains each key."""

    architecture: str
    weights: str
    classes: list[str]
    input: InputConfig


def load_config(path: Path | None = None, settings: Sequence[Setting] = ()) -> Config:
    """Merge configs/file.yaml, the user's file and settings from the command line.

    Parameters
    ----------
    path : Path, optional
        A file that changes some keys of configs/file.yaml, as `find_config` finds it.
    settings : sequence of (origin, key, value)
        Changes by the command line on top: how the user wrote it, the dotted key, the value.

    Raises
    ------
    ConfigError
        If a file cannot be read, a key is unknown, or a value does not fit its key; see `merge`.
    """
    files = [DEFAULTS] if path is None else [DEFAULTS, find_config(path)]
    layers = [file_layer(file) for file in files]
    for layer in layers:
        network = layer.values.get("network")
        if isinstance(network, str):
            layer.values["network"] = str(find_config(Path(network), Path(layer.origin).parent))
    return merge(Config, [*layers, *map(setting_layer, settings)])


def load_network_config(path: Path) -> NetworkConfig:
    """Read the description of a network; its paths become relative to the current folder.

    Raises
    ------
    ConfigError
        As `load_config`.
    """
    return merge(NetworkConfig, [file_layer(find_config(path), ["weights"])])


def parse_number(text: str) -> int | float | str:
    """Read the value of an option as a number if it is one, in decimal notation."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
