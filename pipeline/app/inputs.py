"""Open the sources of a run as configured."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from functools import partial

from squeezedrive.engines.backends.base import Backend
from squeezedrive.engines.backends.video_decoder import DecoderRefused
from squeezedrive.engines.errors import ConfigError
from squeezedrive.pipeline.config import SourceConfig
from squeezedrive.pipeline.core.source import Source, SourceOptions, VideoPart
from squeezedrive.pipeline.core.timing import thread_named
from squeezedrive.pipeline.gps.find import follow_gps
from squeezedrive.pipeline.sources.names import live_kind, shown
from squeezedrive.pipeline.sources.open import open_source

log = logging.getLogger("squeezedrive")


def open_sources(
    specs: Sequence[str],
    config: SourceConfig,
    opened: ExitStack,
    first_id: int = 0,
    part: VideoPart | None = None,
) -> list[Source]:
    """Open all sources, whose ids count from `first_id`; `opened` closes them.

    With a `part`, there is one source, and only that part of it is read.

    Raises
    ------
    SourceError
        If one of them cannot be opened. A live one among several is connected later.
    GpsError
        If positions cannot be read from the place that the user names.
    """
    sources = []
    for number, spec in enumerate(specs, first_id):
        # A decoder starts threads of its own, which inherit the name.
        with thread_named("capture"):
            options = replace(source_options(config, number), part=part)
            source = _open(spec, options, config, alone=len(specs) == 1)
        opened.callback(source.close)
        follow_gps(source, config.gps, config.gps_offset, config.start)
        sources.append(source)
    return sources


def source_options(config: SourceConfig, number: int = 0) -> SourceOptions:
    """Return how a source is opened whose frames have a number; "all" tracks stand for none."""
    fps = None if config.fps is None else Fraction(config.fps).limit_denominator(1001)
    track = None if config.track_index == "all" else config.track_index
    return SourceOptions(number, fps, config.start, config.open_timeout, config.read_timeout, track)


def _open(spec: str, options: SourceOptions, config: SourceConfig, alone: bool) -> Source:
    if config.track_index == "all":
        raise ConfigError(
            "source.track_index: all: expected a file, whose tracks are read in turn, got"
            f" {shown(spec)}"
        )
    open_inner = partial(open_source, spec, options)
    # A single source has to answer at once: its name may be wrong.
    inner = open_inner() if alone or live_kind(spec) is None else None
    if inner is not None and not inner.info.live:
        return inner
    from squeezedrive.pipeline.sources.reconnect import ReconnectingSource

    return ReconnectingSource(spec, open_inner, config.reconnect, inner)


def decode_on_device(
    source: Source, backend: Backend, config: SourceConfig, opened: ExitStack
) -> Source:
    """Return the source with its decoder on the back end's device; if refused, as it is.

    The reason is logged. `opened` closes what is opened for the decoder.
    """
    if config.decode == "cpu":
        return source
    open_decoder = backend.video_decoder
    try:
        if open_decoder is None:
            raise DecoderRefused(f"back end {backend.info.name} takes host pictures")
        moved = source.on_device(open_decoder)
    except DecoderRefused as refusal:
        # A GPU that is not there is not worth a message.
        level = logging.DEBUG if open_decoder is None else logging.INFO
        log.log(
            logging.WARNING if config.decode == "nvdec" else level,
            "%s: decoding on the processor: %s", source.info.name, refusal,
        )  # fmt: skip
        return source
    if source.gps is not None:
        moved.follow(source.gps)
    opened.callback(moved.close)
    log.info("%s: decoding on the GPU", source.info.name)
    return moved
