"""Explain what limits a run, and advise which setting to try."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from squeezedrive.engines.backends.base import BackendInfo
from squeezedrive.pipeline.config import MOST_EVERY, Config, Preset
from squeezedrive.pipeline.profiling.verdict import Verdict


@dataclass(frozen=True)
class Advice:
    """Something to try."""

    text: str
    sweep: str = ""  # what to give to --sweep in order to measure it; empty if it is not a setting


def explain(verdict: Verdict, cores: int) -> str:
    """Return a verdict as two sentences."""
    what = {
        "processor": f"The processor limits: {_all(cores)} busy, and {verdict.stage} takes the"
        " largest part of their time.",
        "others": f"The processor limits: {_all(cores)} busy, to a good part with other"
        " programs, so these figures are not what this machine can do.",
        "accelerator": "The accelerator limits: it works all the time.",
        "stage": f"The stage {verdict.stage} limits: it works all the time, and cores are free.",
        "source": "The source limits: frames are processed as fast as they come.",
        "hand-over": "Neither a stage nor the processor works all the time: frames wait for each"
        f" other between the stages. The busiest stage is {verdict.stage}.",
    }[verdict.limit]
    if verdict.ceiling is None:
        return what
    without = {
        "others": "With the cores to itself",
        "source": "If they came faster,",
        "hand-over": "Without such waits",
    }.get(verdict.limit, f"If {verdict.stage} cost nothing,")
    then = {
        "processor": f"the other {cores / verdict.ceiling * 1e3:.1f} ms of processor time a frame"
        if verdict.limit in ("processor", "stage")
        else f"{cores / verdict.ceiling * 1e3:.1f} ms of processor time a frame",
        "accelerator": "the accelerator",
        "slots": "the number of slots",
        "source": "the source",
    }.get(verdict.next, f"the stage {verdict.next}")
    return (
        f"{what} {without} the run could reach at most {verdict.ceiling:.1f} fps instead of"
        f" {verdict.fps:.1f}; then {then} would limit it."
    )


def advise(
    verdict: Verdict, config: Config, kind: str, backend: BackendInfo, cores: int
) -> list[Advice]:
    """Return what to try, the best first; `kind` is that of the source, see `SourceInfo`."""
    if verdict.limit == "others":
        return [Advice("end the other programs and profile again")]
    if verdict.limit == "source":
        return [Advice("nothing: the program waits for the source")]
    if verdict.limit == "hand-over":
        queue = config.queue
        return [
            Advice("more frames on their way", f"queue.slots={queue.slots},{queue.slots * 2}"),
            Advice("deeper queues", f"queue.depth={queue.depth},{queue.depth * 2}"),
        ]
    return _for_stage(verdict, config, kind, backend, cores)


def _for_stage(
    verdict: Verdict, config: Config, kind: str, backend: BackendInfo, cores: int
) -> list[Advice]:
    found = []
    on_gpu = backend.name != "cpu"
    if verdict.stage == "capture":
        if on_gpu and config.source.decode == "cpu":
            found.append(Advice("the GPU's decoder", "source.decode=cpu,auto"))
        found.append(
            Advice("decoding is the work here: a smaller picture or a lower bit rate costs less")
        )
    elif verdict.stage == "preprocess":
        found.append(Advice("another fit touches fewer pixels", "fit.mode=band,letterbox,stretch"))
    elif verdict.stage == "inference":
        # By itself, the CPU takes int8 if the weights have a model for it.
        if backend.precision != "int8" and (
            backend.name == "tensorrt" or (backend.name == "cpu" and config.cpu.precision != "auto")
        ):
            key = "cpu" if backend.name == "cpu" else "cuda"
            values = f"{backend.precision},int8"
            found.append(Advice("a smaller number format", f"{key}.precision={values}"))
        streams = config.cpu.streams
        more = min(streams * 2, cores, config.queue.slots - 1)  # one is prepared meanwhile
        if backend.name == "cpu" and verdict.limit == "stage" and more > streams:
            found.append(
                Advice("more frames in the network at once", f"cpu.streams={streams},{more}")
            )
        every = config.track.every
        if kind != "images" and every < MOST_EVERY:  # images need not follow each other
            found.append(
                Advice(
                    "the network for fewer frames, with tracking between",
                    f"track.every={every},{every + 1}",
                )
            )
        found.append(
            Advice("a smaller input: a copy of the network's file in configs/ with other input")
        )
    elif verdict.stage == "postprocess":
        top = config.detect.top_n
        if top > 1:
            found.append(Advice("fewer boxes", f"detect.top_n={top},{top // 2}"))
    elif verdict.stage == "render" and config.draw.status:
        found.append(Advice("no status line", "draw.status=true,false"))
    elif verdict.stage == "sinks" and config.video.write:
        if on_gpu and config.video.encoder == "x264":
            found.append(Advice("the GPU's encoder", "video.encoder=x264,auto"))
        preset, presets = config.video.preset, get_args(Preset)
        if preset != presets[0]:
            faster = ",".join(presets[: presets.index(preset)])
            found.append(Advice("a faster encoder", f"video.preset={preset},{faster}"))
        if verdict.limit == "stage":
            threads = config.video.threads or max(cores // 2, 1)
            found.append(
                Advice("more threads for the encoder", f"video.threads={threads},{threads * 2}")
            )
    if not found:
        found.append(Advice("fewer outputs"))
    return found


def _all(cores: int) -> str:
    if cores < 3:
        return ("the only core is", "both cores are")[cores - 1]
    return f"all {cores} cores are"
