"""Open the encoder of H.264: NVENC, the encoder of NVIDIA GPUs, or x264 on the processor."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import cast

import av
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from squeezedrive.engines.backends.cuda.machine import cuda_of_driver
from squeezedrive.pipeline.config import Preset, VideoConfig

log = logging.getLogger("squeezedrive")

X264, NVENC = "libx264", "h264_nvenc"
# No B-frames: a fifth less CPU time for an eighth more bytes, and packets leave in the order they
# are shown. Key frames are set by time, so the encoder's own limit is put out of the way.
# Pictures that are encoded as they were decoded may bring subtitles, which stay out.
OPTIONS = {"bf": "0", "g": "1000000", "a53cc": "0"}
# Spending bits where later pictures are predicted from. x264 does so from "veryfast" on; with it,
# "superfast" makes files of the same size in two thirds of the time. SSIM at crf 23 of 960x540,
# 1392x512 and 1920x1080: 0.9829, 0.9739 and 0.9989; with "veryfast" 0.9837, 0.9759 and 0.9990.
LOOKS_AHEAD = {"mbtree": "1"}
PRESETS: Mapping[Preset, str] = {  # of NVENC, which knows seven
    "ultrafast": "p1",
    "superfast": "p2",
    "veryfast": "p3",
    "faster": "p4",
    "fast": "p4",
    "medium": "p5",
    "slow": "p6",
    "slower": "p7",
}


def open_encoder(
    options: VideoConfig, fps: Fraction, describe: Callable[[VideoStream], None]
) -> tuple[OutputContainer, VideoStream]:
    """Open the encoder that the user wants; x264 if that is NVENC and does not run here.

    The container writes nothing: a stream, which files are made after, needs one.

    Parameters
    ----------
    options : VideoConfig
        Which encoder, and how it encodes.
    fps : Fraction
        Nominal frame rate.
    describe : callable
        Gives a stream the size, colours and clock of the pictures, before it is opened.

    Raises
    ------
    FFmpegError
        If x264 refuses.
    """
    if options.encoder != "x264":
        # A missing GPU is not worth a message.
        level, reason = logging.DEBUG, "no NVIDIA driver"
        if cuda_of_driver() is not None:
            try:
                return _open(NVENC, nvenc_options(options), fps, describe)
            except FFmpegError as error:  # of a GPU without one, an old driver, too many sessions
                level, reason = logging.INFO, f"FFmpeg cannot open it: {error.strerror}"
        if options.encoder == "nvenc":
            level = logging.WARNING
        log.log(level, "encoding on the processor: NVENC: %s", reason)
    x264 = {**OPTIONS, "preset": options.preset, "crf": str(options.crf), "rc-lookahead": "5"}
    if options.preset != "ultrafast":
        x264 |= LOOKS_AHEAD
    return _open(X264, x264, fps, describe)


def nvenc_options(options: VideoConfig) -> dict[str, str]:
    """Return the options of h264_nvenc that mean about the same as those of x264.

    A quality is only kept where no bit rate is set; frames that have to be key frames are such
    that a file can begin with, if "forced-idr" is.
    """
    quality = {"rc": "vbr", "cq": str(options.crf), "b": "0"}
    return {**OPTIONS, **quality, "preset": PRESETS[options.preset], "forced-idr": "1"}


def _open(
    codec: str, options: dict[str, str], fps: Fraction, describe: Callable[[VideoStream], None]
) -> tuple[OutputContainer, VideoStream]:
    container = av.open(os.devnull, "w", format="null")
    stream = cast(VideoStream, container.add_stream(codec, rate=fps, options=options))
    describe(stream)
    container.start_encoding()
    return container, stream
