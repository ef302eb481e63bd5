"""Open the sources, network and outputs of a configuration as a pipeline ready to run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from squeezedrive.engines.backends.base import Backend
from squeezedrive.engines.errors import ConfigError
from squeezedrive.pipeline.app.feeds import OwnSinks, build_feeds
from squeezedrive.pipeline.app.inputs import decode_on_device, open_sources
from squeezedrive.pipeline.app.network import (
    LoadedNetwork,
    NetworkDescription,
    describe_network,
    open_network,
)
from squeezedrive.pipeline.app.outputs import Outputs, plan_outputs
from squeezedrive.pipeline.app.page import LivePage, open_page
from squeezedrive.pipeline.config import Config
from squeezedrive.pipeline.core.errors import SourceError
from squeezedrive.pipeline.core.sink import Sink
from squeezedrive.pipeline.core.source import Source, VideoPart
from squeezedrive.pipeline.sinks.recordings.events import check_events
from squeezedrive.pipeline.stages.feed import Draw, Feed
from squeezedrive.pipeline.stages.pipeline import Pipeline

if TYPE_CHECKING:
    from squeezedrive.pipeline.preview.status import Status


@dataclass(frozen=True, eq=False)
class Session:
    """Sources, a network and outputs, opened together by `open_session` and closed together.

    The pipeline is ready to run, in any thread.
    """

    config: Config
    network: NetworkDescription
    backend: Backend
    feeds: list[Feed]
    pipeline: Pipeline
    opened: ExitStack  # closes all of it

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close everything, after the run; may be called more than once."""
        self.opened.close()

    @property
    def name(self) -> str:
        """Names of the sources, without passwords."""
        return ", ".join(feed.source.info.name for feed in self.feeds)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in the order of the class indices."""
        return self.network.class_names

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
        """Names of the outputs that are written."""
        return [sink.name for sink in self.sinks if not sink.is_display]

    @property
    def live(self) -> bool:
        """Whether any source is live, so that the run has no end of its own."""
        return any(feed.source.info.live for feed in self.feeds)

    @property
    def expected_frames(self) -> int | None:
        """How many frames the run will have; None if a source does not know."""
        total = 0
        for feed in self.feeds:
            limits = (feed.source.info.frames, self.config.source.frames)
            known = [limit for limit in limits if limit is not None]
            if not known:
                return None
            total += min(known)
        return total

    def emptiness(self) -> SourceError | None:
        """Return an error if the run is over and there was no frame."""
        if self.pipeline.read:
            return None
        return SourceError(f"{self.name}: has no frames that can be shown")

    @property
    def warnings(self) -> list[str]:
        """One line for each problem that did not end the run."""
        lines = [line for feed in self.feeds for line in feed.source.report.warnings]
        for sink in self.sinks:
            lines += sink.warnings
        for feed in self.feeds:
            if feed.stale > feed.processed:
                lines.append(
                    f"{feed.source.info.name}: most frames were older than"
                    f" {self.config.queue.max_age:g} s after the network;"
                    " raise queue.max_age, or use --policy latest"
                )
        return lines


def open_session(
    specs: Sequence[str],
    config: Config,
    outputs: Outputs,
    sinks: OwnSinks = (),
    draw: Draw | None = None,
    loaded: LoadedNetwork | None = None,
    first_id: int = 0,
    page: LivePage | None = None,
    part: VideoPart | None = None,
) -> Session:
    """Open sources, network and outputs.

    Everything is checked that can be checked before the first frame, cheapest first, so that a
    mistake in an output's name does not wait for the network to load.

    Parameters
    ----------
    specs : sequence of str
        The sources: each a file, folder, pattern, camera, URL or "demo:".
    config : Config
        Validated configuration.
    outputs : Outputs
        Where results go; with several sources, see `plan_outputs`.
    sinks : sequence of Sink, or callable
        The caller's own sinks, which get the results after all others. A sink that is given to
        several sources is closed once for each.
    draw : callable, optional
        Draws into every picture instead of `Painter`.
    loaded : LoadedNetwork, optional
        The network of this configuration, opened before and left open; otherwise it is opened here.
    first_id : int
        `source_id` of the first source's frames; those of the others follow.
    page : LivePage, optional
        A live page that was opened before and is left open; otherwise one is opened here, if it is
        configured.
    part : VideoPart, optional
        The part of the only source that is read.

    Raises
    ------
    UserError
        If something the user gave cannot be used.
    """
    with ExitStack() as stack:
        network = describe_network(config) if loaded is None else loaded.description
        check_events(config.record, network.class_names)

        def status() -> Status:  # called when the page shows it; the pipeline exists then
            from squeezedrive.pipeline.app.status import status_of

            running = f"{backend.info.name} {backend.info.precision}"
            model = network.weights.profile.name
            return status_of(pipeline, network.class_names, model, running)

        if page is None:
            page = open_page(config, network, len(specs))
            if page is not None:
                stack.enter_context(page)
        shown = [[]] * len(specs) if page is None else [[sink] for sink in page.sinks]
        # Closed before the back end, which may decode for them.
        with ExitStack() as reading:
            sources = open_sources(specs, config.source, reading, first_id, part)
            places = plan_outputs(outputs, [source.info for source in sources], config)
            if loaded is None:
                backend = open_network(config, network)
                stack.callback(backend.close)
            else:
                backend = loaded.backend
            if config.queue.batch > backend.max_batch:
                raise ConfigError(
                    f"queue.batch: back end {backend.info.name} takes at most"
                    f" {backend.max_batch} at once, got {config.queue.batch}"
                )
            sources = [decode_on_device(s, backend, config.source, reading) for s in sources]
            feeds = build_feeds(sources, places, shown, sinks, draw, config, network, backend)
            pipeline = Pipeline(feeds, backend, config.queue, network.controls)
            reading.pop_all()
        stack.callback(pipeline.close_sources)
        if page is not None:
            page.show(status)
        return Session(config, network, backend, feeds, pipeline, stack.pop_all())
