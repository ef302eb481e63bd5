"""From a configuration to a pipeline ready to run: opens sources, network and outputs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from squeezedrive.engines.backends.video_decoder import DecoderRefused
from squeezedrive.engines.errors import ConfigError
from squeezedrive.pipeline.app.network import detect_params, load_network, open_network
from squeezedrive.pipeline.app.outputs import (
    Outputs,
    check_distinct,
    check_outputs,
    default_output,
    numbered,
)
from squeezedrive.pipeline.config import Config, PreviewConfig, load_network_config
from squeezedrive.pipeline.core.controls import Controls
from squeezedrive.pipeline.core.sink import Sink
from squeezedrive.pipeline.core.source import Source, SourceOptions
from squeezedrive.pipeline.core.timing import thread_named
from squeezedrive.pipeline.drawing import Painter
from squeezedrive.pipeline.sinks import check_events, open_sinks
from squeezedrive.pipeline.sources.names import live_kind
from squeezedrive.pipeline.sources.open import open_source
from squeezedrive.pipeline.stages.feed import Feed
from squeezedrive.pipeline.stages.pipeline import Pipeline, QueueOptions
from squeezedrive.pipeline.tracking.tracker import Tracker

if TYPE_CHECKING:
    from squeezedrive.pipeline.preview.server import PreviewServer
    from squeezedrive.pipeline.preview.sink import PreviewSink
    from squeezedrive.pipeline.preview.status import Status

log = logging.getLogger("squeezedrive")

LOWEST = 0.05  # score of a box that the live page's slider can still bring up


class Session:
    """Sources, a network and outputs, opened together and closed together.

    Opening checks everything that can be checked before the first frame, cheapest first, so that
    a mistake in an output's name does not wait for the network to load.

    Parameters
    ----------
    sources : sequence of str
        Each a file, folder, pattern, camera, URL or "scene:".
    config : Config
        Validated configuration.
    outputs : Outputs
        Where results go; with several sources, see `numbered`.

    Attributes
    ----------
    feeds : list of Feed
        The sources with their outputs.
    pipeline : Pipeline
        Ready to run.

    Raises
    ------
    UserError
        If something the user gave cannot be used.
    """

    def __init__(self, sources: Sequence[str], config: Config, outputs: Outputs) -> None:
        self.config = config
        self._pipeline: Pipeline | None = None
        with ExitStack() as stack:
            network_file = Path(config.network)
            self.network = load_network_config(network_file)
            self.weights = load_network(network_file, self.network)
            self.class_names = self.weights.profile.output.classes
            detect = detect_params(config, self.class_names)
            check_events(config.record, self.class_names)
            self.preview: PreviewServer | None = None
            self.controls: Controls | None = None
            if config.preview.address is not None or config.track.follows:
                self.controls = Controls(
                    self.class_names, config.detect.threshold, config.detect.classes
                )
                detect = replace(detect, threshold=self._lowest(), classes=None)
            watched: list[PreviewSink | None] = [None for _ in sources]
            if config.preview.address is not None:
                watched = self._open_preview(config.preview, len(sources), stack)
            self._sources: list[Source] = []
            stack.callback(self._close_sources)
            for number, spec in enumerate(sources):
                # Decoder and network start threads of their own, which inherit these names.
                with thread_named("capture"):
                    self._sources.append(self._open_source(spec, number, len(sources) == 1))
            each = self._outputs_of_each(outputs)
            with thread_named("inference"):
                self.backend = open_network(config, self.network, self.weights, detect)
            stack.callback(self.backend.close)
            self._sources = [self._decoded_on_device(source) for source in self._sources]
            stack.callback(self._close_sources)  # before the back end, whose decoders they may have
            self.window: Any = None
            self.feeds = [
                self._feed(*one) for one in zip(self._sources, each, watched, strict=True)
            ]
            queue = config.queue
            if queue.batch > self.backend.max_batch:
                raise ConfigError(
                    f"queue.batch: back end {self.backend.info.name} takes"
                    f" {self.backend.max_batch} at once at most, got {queue.batch}"
                )
            options = QueueOptions(
                queue.policy, queue.depth, queue.max_age, queue.slots, queue.batch
            )
            self.pipeline = self._pipeline = Pipeline(
                self.feeds, self.backend, options, self.controls
            )
            if self.preview is not None:
                self.preview.start()
                log.info("live page: %s", self.preview.url)
            self._stack = stack.pop_all()

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
    def name(self) -> str:
        """What the sources are called, without passwords."""
        return ", ".join(source.info.name for source in self._sources)

    @property
    def source(self) -> Source:
        """The first source."""
        return self.feeds[0].source

    @property
    def sinks(self) -> list[Sink]:
        """The sinks of all sources."""
        return [sink for feed in self.feeds for sink in feed.sinks]

    @property
    def files(self) -> list[str]:
        """What is written, by the names of its sinks."""
        shown = ("window", "preview")
        return [sink.name for sink in self.sinks if sink.name not in shown]

    @property
    def live(self) -> bool:
        """Whether there is a source that has no end of its own."""
        return any(source.info.live for source in self._sources)

    @property
    def expected_frames(self) -> int | None:
        """How many frames the run will have, as far as the sources know."""
        total = 0
        for source in self._sources:
            known = [n for n in (source.info.frames, self.config.source.frames) if n is not None]
            if not known:
                return None
            total += min(known)
        return total

    @property
    def warnings(self) -> list[str]:
        """One line for everything that was not as it should be but did not end the run."""
        lines = [line for source in self._sources for line in source.report.warnings]
        for sink in self.sinks:
            lines += sink.warnings
        for feed in self.feeds:
            if feed.stale > feed.processed:
                lines.append(
                    f"{feed.source.info.name}: most frames were older than"
                    f" {self.config.queue.max_age:g} s when they had been through the network;"
                    " raise queue.max_age, or take --policy latest"
                )
        return lines

    def _close_sources(self) -> None:
        reading = () if self._pipeline is None else self._pipeline.feeds
        # A source that hangs in the system may not be closed while it is being read.
        hanging = [f.source for f in reading if self.pipeline.capturing(f)]
        for source in self._sources:
            if source not in hanging:
                source.close()

    def _open_preview(
        self, config: PreviewConfig, count: int, stack: ExitStack
    ) -> list[PreviewSink | None]:
        """Take the live page's port, and return what shows it the pictures of each source."""
        from squeezedrive.pipeline.preview.server import PreviewServer
        from squeezedrive.pipeline.preview.sink import PreviewSink

        sinks = [PreviewSink() for _ in range(count)]
        token = None if config.token is None else config.token.get_secret_value()
        assert config.address is not None
        assert self.controls is not None
        self.preview = stack.enter_context(
            PreviewServer(config.address, token, self._status, self.controls, sinks)
        )
        return list(sinks)

    def _lowest(self) -> float:
        """Return the lowest score that the live page and the tracker have a use for."""
        threshold = self.config.detect.threshold
        if self.config.preview.address is not None:
            threshold = min(threshold, LOWEST)
        return Tracker.weakest(threshold) if self.config.track.follows else threshold

    def _status(self) -> Status:
        from squeezedrive.pipeline.app.status import status_of

        info = self.backend.info
        model, backend = self.weights.profile.name, f"{info.name} {info.precision}"
        return status_of(self.pipeline, self.class_names, model, backend)

    def _open_source(self, spec: str, number: int, alone: bool) -> Source:
        """Open a source; one that is live and not alone is waited for later on."""
        config = self.config.source
        fps = None if config.fps is None else Fraction(config.fps).limit_denominator(1001)
        options = SourceOptions(
            source_id=number,
            fps=fps,
            start=config.start,
            open_timeout=config.open_timeout,
            read_timeout=config.read_timeout,
        )

        def open_inner() -> Source:
            return open_source(spec, options)

        # One that is alone has to answer at once: its name may be wrong.
        inner = open_inner() if alone or live_kind(spec) is None else None
        if inner is not None and not inner.info.live:
            return inner
        from squeezedrive.pipeline.sources.reconnect import ReconnectingSource

        return ReconnectingSource(spec, open_inner, config.reconnect, inner)

    def _outputs_of_each(self, outputs: Outputs) -> list[tuple[Outputs, Path]]:
        """Return the outputs of each source, and what its video is called, having checked them."""
        inputs = [path for source in self._sources for path in source.info.inputs]
        several = len(self._sources) > 1
        segmented = self.config.record.segment is not None
        video = self.config.video.write
        writes = video or bool(self.config.record.events)
        each = []
        for number, source in enumerate(self._sources):
            mine = numbered(outputs, number) if several else outputs
            name = mine.video or default_output(source.info, number if several else None)
            if mine.video is None and mine.profile is not None:
                name = mine.profile / "video.mp4"
            check_outputs(mine, name if writes else None, inputs, segmented or not video, segmented)
            each.append((mine, name))
        files = [p for mine, name in each for p in (name if writes else None, mine.jsonl, mine.mot)]
        check_distinct([path for path in (*files, outputs.summary) if path is not None])
        if several and outputs.summary is not None:
            only = Outputs(summary=outputs.summary, overwrite=outputs.overwrite)
            check_outputs(only, None, inputs)
        return each

    def _feed(
        self, source: Source, outputs_and_name: tuple[Outputs, Path], watched: PreviewSink | None
    ) -> Feed:
        outputs, name = outputs_and_name
        config = self.config
        sinks = open_sinks(
            outputs, name, source, self.class_names, config, partial(self._header, source),
            share=1 / len(self._sources),
        )  # fmt: skip
        if outputs.show:
            from squeezedrive.pipeline.sinks.window import WindowSink

            self.window = WindowSink(f"SqueezeDrive: {source.info.name}")
            sinks.insert(0, self.window)  # first: without a display nothing is written
        if watched is not None:
            sinks.insert(0, watched)
        draws = config.video.write or config.record.events or outputs.show or watched is not None
        painter = Painter(self.class_names, status=config.draw.status) if draws else None
        tracker = None
        if config.track.follows and self.controls is not None:
            tracker = Tracker(self.controls)
        return Feed(source, sinks, painter, config.source.frames, tracker, config.track.every)

    def _decoded_on_device(self, source: Source) -> Source:
        """Let the back end's device decode, if it can; one line says why it does not."""
        wanted = self.config.source.decode
        if wanted == "cpu":
            return source
        open_decoder = self.backend.video_decoder
        try:
            if open_decoder is None:
                raise DecoderRefused(f"back end {self.backend.info.name} takes host pictures")
            moved = source.on_device(open_decoder)
        except DecoderRefused as refusal:
            # Nobody has to be told about a GPU that is not there.
            level = logging.DEBUG if open_decoder is None else logging.INFO
            log.log(
                logging.WARNING if wanted == "nvdec" else level,
                "%s: decoding on the processor: %s", source.info.name, refusal,
            )  # fmt: skip
            return source
        log.info("%s: decoding on the GPU", source.info.name)
        return moved

    def _header(self, source: Source) -> dict[str, Any]:
        info, network = source.info, self.network
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
