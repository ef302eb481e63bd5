"""Profile a session: watch it, measure parts of it alone, write the folder."""

from __future__ import annotations

import importlib
import json
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from squeezedrive.engines.files import check_free
from squeezedrive.pipeline.app.outputs import PROFILE_FILES
from squeezedrive.pipeline.app.session import Session
from squeezedrive.pipeline.core.errors import ProfileError, SinkError
from squeezedrive.pipeline.profiling.alone import measure_alone
from squeezedrive.pipeline.profiling.figures import collect_figures
from squeezedrive.pipeline.profiling.recorder import Recorder
from squeezedrive.pipeline.profiling.report import build_report
from squeezedrive.pipeline.profiling.trace import build_trace
from squeezedrive.pipeline.stages.pipeline import Pipeline

SWEEP_FILE = "sweep.json"
# A run of known length needs so many times the frames that the pipeline holds: one part to fill
# it, with the warm-up; one that is under way when the source ends; and one to measure.
_LEAST_FILLS = 2.5
log = logging.getLogger("squeezedrive")


@contextmanager
def profile_folder(folder: Path, overwrite: bool) -> Iterator[None]:
    """Make the folder for a profile and its parents; a new one that stays empty is removed.

    Raises
    ------
    SinkError
        If it cannot be made or holds a profile already.
    """
    try:
        if folder.exists() and not folder.is_dir():
            raise SinkError(f"{folder}: is a file, expected a folder for the profile")
        for name in (*PROFILE_FILES, SWEEP_FILE):
            check_free(folder / name, overwrite, SinkError)
        new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
    except SinkError:
        raise
    except OSError as error:
        raise SinkError(f"{folder}: cannot make the folder: {error.strerror}") from None
    if not os.access(folder, os.W_OK):
        raise SinkError(f"{folder}: no permission to write there")
    try:
        yield
    finally:
        if new:
            with suppress(OSError):
                folder.rmdir()


class Profiler:
    """Watches the pipeline of a session from before its run to its end.

    Parameters
    ----------
    session : Session
        Open, its pipeline not yet run.

    Raises
    ------
    ProfileError
        If the run will be too short to measure anything.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        queue, pipeline = session.config.queue, session.pipeline
        _mark_ranges(pipeline)
        captured, *others = pipeline.queues.values()
        together = max(queue.batch, 1) * session.config.track.every
        held = captured.depth + together * (queue.slots + sum(one.depth for one in others))
        expected = session.expected_frames
        self._least = math.ceil(_LEAST_FILLS * held)
        if expected is not None and expected < self._least:
            raise ProfileError(
                f"nothing to profile in {expected} frames: up to {held} are in the pipeline at a"
                f" time, so take {self._least} or more"
            )
        self._recorder = Recorder(pipeline, session.config.profile.warmup, expected, held)

    def tick(self) -> None:
        """Read the threads' times; called often while the pipeline runs."""
        self._recorder.tick()

    def finish(
        self, run: Mapping[str, Any], hurry: Callable[[], bool], alone: bool = True
    ) -> dict[str, Any]:
        """Measure network and detection alone, and collect all figures.

        Parameters
        ----------
        run : mapping
            From `pipeline.app.summary.summarise`.
        hurry : callable
            Called repeatedly; returns whether to end the measurements early.
        alone : bool
            Whether the network can still be used.

        Raises
        ------
        ProfileError
            If the run ended before its warm-up.
        """
        recorder = self._recorder
        if recorder.frames < 2:
            warmup = self._session.config.profile.warmup
            raise ProfileError(
                f"nothing to profile: {run['frames']['processed']} frames came out, in the warm-up"
                f" of {warmup:g} s and after the end of the source; take {self._least} or more, or"
                " lower profile.warmup"
            )
        recorder.close()
        rates = {}
        if alone and recorder.picture is not None:
            log.info("measuring the detection and the network alone, a second each")
            rates = measure_alone(
                self._session.backend,
                recorder.picture.yuv or recorder.picture.image,
                max(self._session.config.queue.batch, 1),
                hurry=hurry,
            )
        return collect_figures(self._session, recorder, rates, run)

    def write(self, folder: Path, figures: Mapping[str, Any]) -> None:
        """Write report.html, summary.json and trace.json, each even if another one fails.

        Raises
        ------
        SinkError
            If one of them cannot be written.
        """
        contents = (
            build_report(figures),
            json.dumps(figures, indent=1) + "\n",
            json.dumps(build_trace(self._recorder, figures["source"])) + "\n",
        )
        failures = []
        for name, text in zip(PROFILE_FILES, contents, strict=True):
            try:
                (folder / name).write_text(text, encoding="utf-8")
            except OSError as error:
                failures.append(f"{folder / name}: cannot write the profile: {error.strerror}")
        if failures:
            raise SinkError("; ".join(failures))


def _mark_ranges(pipeline: Pipeline) -> None:
    """Show the stages to NVIDIA Nsight Systems as NVTX ranges, if the package nvtx is there."""
    try:
        nvtx = importlib.import_module("nvtx")
    except ImportError:
        return
    for stage in pipeline.stages:
        stage.wrap(nvtx.annotate(stage.name, domain="squeezedrive"))
