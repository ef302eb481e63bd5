"""Profiles a session: watches it, measures parts of it alone, writes DIR."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import ProfileError, SinkError
from pipeline.outputs import PROFILE_FILES
from pipeline.profiling.alone import measure_alone
from pipeline.profiling.figures import collect
from pipeline.profiling.recorder import Recorder
from pipeline.profiling.report import build_report
from pipeline.profiling.trace import build_trace
from pipeline.run import Pipeline
from pipeline.session import Session


def prepare_folder(folder: Path, overwrite: bool) -> None:
    """Make the folder for a profile.

    Raises
    ------
    SinkError
        If it cannot be made or holds a profile already.
    """
    if folder.exists() and not folder.is_dir():
        raise SinkError(f"{folder}: is a file, expected a folder for the profile")
    if not overwrite and any((folder / name).exists() for name in (*PROFILE_FILES, "sweep.json")):
        raise SinkError(f"{folder}: holds a profile already; --overwrite replaces it")
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise SinkError(f"{folder}: cannot make the folder: {error.strerror}") from None
    if not os.access(folder, os.W_OK):
        raise SinkError(f"{folder}: no permission to write there")


class Profiler:
    """Watches the pipeline of a session from before its run to its end.

    Parameters
    ----------
    session : Session
        Open, its pipeline not yet run.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        queue, pipeline = session.config.queue, session.pipeline
        _mark_ranges(pipeline)
        captured, *others = pipeline.queues.values()
        together = max(queue.batch, 1) * session.config.track.every
        held = captured.depth + together * (queue.slots + sum(one.depth for one in others))
        self._recorder = Recorder(
            pipeline, session.config.profile.warmup, session.expected_frames, held
        )

    def tick(self) -> None:
        """Look at the threads; called often while the pipeline runs."""
        self._recorder.tick()

    def finish(self, run: Mapping[str, Any]) -> dict[str, Any]:
        """Measure network and detection alone and put all figures together.

        Parameters
        ----------
        run : mapping
            From `pipeline.summary.summarise`.

        Raises
        ------
        ProfileError
            If the run ended before its warm-up.
        """
        recorder = self._recorder
        if recorder.frames < 2:
            warmup = self._session.config.profile.warmup
            raise ProfileError(
                f"nothing to profile: {run['frames']['processed']} frames came out, all within"
                f" the warm-up of {warmup:g} s; take more, or lower profile.warmup"
            )
        recorder.close()
        alone = {}
        if recorder.picture is not None:
            alone = measure_alone(
                self._session.backend,
                recorder.picture.image,
                max(self._session.config.queue.batch, 1),
            )
        return collect(self._session, recorder, alone, run)

    def write(self, folder: Path, figures: Mapping[str, Any]) -> None:
        """Write report.html, summary.json and trace.json.

        Raises
        ------
        SinkError
            If a file cannot be written.
        """
        contents = (
            build_report(figures),
            json.dumps(figures, indent=1) + "\n",
            json.dumps(build_trace(self._recorder, figures["source"])) + "\n",
        )
        for name, text in zip(PROFILE_FILES, contents, strict=True):
            try:
                (folder / name).write_text(text, encoding="utf-8")
            except OSError as error:
                reason = f"{folder / name}: cannot write the profile: {error.strerror}"
                raise SinkError(reason) from None


def _mark_ranges(pipeline: Pipeline) -> None:
    """Show the stages to NVIDIA Nsight Systems as NVTX ranges, where the package nvtx is."""
    try:
        nvtx = importlib.import_module("nvtx")
    except ImportError:
        return
    for stage in pipeline.stages:
        stage.wrap(nvtx.annotate(stage.name, domain="squeezedrive"))
