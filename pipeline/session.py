"""From a configuration to a pipeline ready to run: opens source, network and outputs."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

from engines.backend import Backend, EngineSettings, open_backend
from engines.decoding import DecoderRefused, OpenDecoder
from engines.errors import ConfigError, NetworkError, WeightsError
from engines.weights import Weights, int8_model, load_weights
from kernels.reference import DetectParams
from pipeline.config import Config, NetworkConfig, load_network_config
from pipeline.drawing import Painter
from pipeline.outputs import Outputs, check_outputs, default_output
from pipeline.queues import Policy
from pipeline.run import Pipeline, QueueOptions
from pipeline.sinks.base import Sink
from pipeline.sources import open_source
from pipeline.sources.base import Source, SourceOptions
from pipeline.timing import thread_named

log = logging.getLogger("squeezedrive")


class Session:
    """A source, a network and outputs, opened together and closed together.

    Opening checks everything that can be checked before the first frame, cheapest first, so that
    a mistake in an output's name does not wait for the network to load.

    Parameters
    ----------
    source : str
        File, folder, pattern, camera, URL or "scene:".
    config : Config
        Validated configuration.
    outputs : Outputs
        Where results go.

    Raises
    ------
    UserError
        If something the user gave cannot be used.
    """

    def __init__(self, source: str, config: Config, outputs: Outputs) -> None:
        self.config = config
        self._opened = False
        with ExitStack() as stack:
            network_file = Path(config.network)
            network = load_network_config(network_file)
            self.weights = _load_weights(network_file, network)
            self.class_names = self.weights.profile.output.classes
            detect = _detect_params(config, self.class_names)
            # Decoder and network start threads of their own, which inherit these names.
            with thread_named("capture"):
                self.source = self._open_source(source)
            stack.callback(self._close_source)
            self.video = self._video_path(outputs)
            check_outputs(outputs, self.video, self.source.info)
            with thread_named("inference"):
                self.backend = self._open_backend(network, detect)
            stack.callback(self.backend.close)
            self._decode_on_device()
            stack.callback(self._close_source)  # before the back end, whose decoder it may have
            self.window: Any = None
            self.sinks = self._sinks(outputs, network)
            draws = self.video is not None or outputs.show
            self.pipeline = Pipeline(
                self.source,
                self.backend,
                self.sinks,
                Painter(self.class_names, status=config.draw.status) if draws else None,
                self.class_names,
                self._queue_options(),
                limit=config.source.frames,
            )
            self._stack = stack.pop_all()
            self._opened = True

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def expected_frames(self) -> int | None:
        """How many frames the run will have, as far as the source knows."""
        known = [n for n in (self.source.info.frames, self.config.source.frames) if n is not None]
        return min(known) if known else None

    @property
    def warnings(self) -> list[str]:
        """One line for everything that was not as it should be but did not end the run."""
        lines = list(self.source.report.warnings)
        for sink in self.sinks:
            lines += getattr(sink, "warnings", [])
        return lines

    def _close_source(self) -> None:
        # A source that hangs in the system may not be closed while it is being read.
        if not (self._opened and self.pipeline.capturing):
            self.source.close()

    def _open_source(self, spec: str) -> Source:
        config = self.config.source
        fps = None if config.fps is None else Fraction(config.fps).limit_denominator(1001)
        options = SourceOptions(
            fps=fps,
            start=config.start,
            open_timeout=config.open_timeout,
            read_timeout=config.read_timeout,
        )
        return open_source(spec, options)

    def _video_path(self, outputs: Outputs) -> Path | None:
        if not self.config.video.write:
            return None
        if outputs.video is None and outputs.profile is not None:
            return outputs.profile / "video.mp4"
        return outputs.video or default_output(self.source.info)

    def _open_backend(self, network: NetworkConfig, detect: DetectParams) -> Backend:
        config = self.config
        settings = EngineSettings(
            weights=self.weights,
            width=network.input.width,
            height=network.input.height,
            detect=detect,
            fit=config.fit.mode,
            band_centre=config.fit.band_centre,
            cpu_precision=config.cpu.precision,
            threads=config.cpu.threads,
            streams=config.cpu.streams,
            int8=int8_model(Path(network.weights)),
            cuda_precision=config.cuda.precision,
        )
        backend = open_backend(config.backend, settings)
        info = backend.info
        log.info(
            "backend %s: %s, %s, on %s (%s)",
            info.name, info.runtime, info.precision, info.device, info.reason,
        )  # fmt: skip
        return backend

    def _decode_on_device(self) -> None:
        """Let the back end's device decode, if it can; one line says why it does not."""
        wanted = self.config.source.decode
        if wanted == "cpu":
            return
        open_decoder: OpenDecoder | None = getattr(self.backend, "video_decoder", None)
        on_device = getattr(self.source, "on_device", None)
        try:
            if open_decoder is None:
                raise DecoderRefused(f"back end {self.backend.info.name} takes host pictures")
            if on_device is None:
                raise DecoderRefused("it is no video file")
            self.source = on_device(open_decoder)
        except DecoderRefused as refusal:
            # Nobody has to be told about a GPU that is not there.
            level = logging.DEBUG if open_decoder is None else logging.INFO
            log.log(
                logging.WARNING if wanted == "nvdec" else level,
                "%s: decoding on the processor: %s", self.source.info.name, refusal,
            )  # fmt: skip
        else:
            log.info("%s: decoding on the GPU", self.source.info.name)

    def _queue_options(self) -> QueueOptions:
        queue = self.config.queue
        policy: Policy
        if queue.policy != "auto":
            policy = queue.policy
        else:
            policy = "latest" if self.source.info.live else "lossless"
        return QueueOptions(policy, queue.depth, queue.max_age, queue.slots)

    def _sinks(self, outputs: Outputs, network: NetworkConfig) -> list[Sink]:
        # Each sink brings a library that only runs with it need.
        sinks: list[Sink] = []
        if outputs.show:
            from pipeline.sinks.window import WindowSink

            self.window = WindowSink(f"SqueezeDrive: {self.source.info.name}")
            sinks.append(self.window)  # first: without a display nothing is written
        if outputs.jsonl is not None:
            from pipeline.sinks.jsonl import JsonlSink

            sinks.append(JsonlSink(outputs.jsonl, self._header(network), self.class_names))
        if outputs.kitti is not None:
            from pipeline.sinks.kitti import KittiSink

            stem = getattr(self.source, "stem", None)
            sinks.append(KittiSink(outputs.kitti, self.class_names, stem))
        if self.video is not None:
            from pipeline.sinks.video import VideoSink

            video = self.config.video
            sinks.append(VideoSink(self.video, self.source, video.preset, video.crf, video.threads))
        return sinks

    def _header(self, network: NetworkConfig) -> dict[str, Any]:
        info = self.source.info
        return {
            "model": {
                "name": self.weights.profile.name,
                "classes": list(self.class_names),
                "input": [network.input.width, network.input.height],
                "backend": self.backend.info.name,
                "precision": self.backend.info.precision,
            },
            "config": self.config.model_dump(mode="json"),
            "source": {
                "name": info.name,
                "kind": info.kind,
                "width": info.width,
                "height": info.height,
                "fps": None if info.fps is None else float(info.fps),
                "origin": float(info.origin * info.time_base),
            },
        }


def _load_weights(network_file: Path, network: NetworkConfig) -> Weights:
    path = Path(network.weights)
    weights = load_weights(path)
    profile = weights.profile
    for key, configured, trained in (
        ("architecture", network.architecture, profile.network),
        ("classes", network.classes, list(profile.output.classes)),
    ):
        if configured != trained:
            raise WeightsError(
                f"{network_file}: {key}: {configured} contradicts the profile"
                f" {path.with_suffix('.json')}, which has {trained}"
            )
    try:
        weights.operations(network.input.width, network.input.height)
    except NetworkError as error:
        raise ConfigError(f"{network_file}: input: {error}") from None
    return weights


def _detect_params(config: Config, names: tuple[str, ...]) -> DetectParams:
    detect = config.detect
    for name in detect.classes:
        if name not in names:
            raise ConfigError(
                f"detect.classes: unknown class {name!r}, the network knows {', '.join(names)}"
            )
    return DetectParams(
        threshold=detect.threshold,
        top_n=detect.top_n,
        nms_iou=detect.nms_iou,
        greedy=detect.nms == "greedy",
        classes=tuple(names.index(name) for name in detect.classes) or None,
    )
