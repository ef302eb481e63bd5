"""Find what limits a run, and how fast it could be without that, from measured times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from squeezedrive.pipeline.app.summary import BUSY
from squeezedrive.pipeline.core.stage import StageName

Limit = Literal["processor", "others", "accelerator", "stage", "source", "hand-over"]

_OF_A_STAGE = ("processor", "accelerator", "stage")
_OTHERS = 0.15  # from this share of the cores on, other programs spoil a measurement


@dataclass(frozen=True)
class StageLoad:
    """The work of one stage during the measurement.

    Attributes
    ----------
    name : StageName
    workers, frames : int
        Its threads, and the frames they worked on.
    busy : float
        Seconds of work, of all workers together.
    cpu : float
        Processor time of its own threads in seconds.
    library_cpu : float
        Processor time of the threads that libraries run for it.
    delay : float or None
        Seconds in which its threads and those of its libraries could have run but had no core,
        all together; None if that is not known.
    """

    name: StageName
    workers: int
    frames: int
    busy: float
    cpu: float
    library_cpu: float = 0.0
    delay: float | None = None

    @property
    def floor(self) -> float:
        """Least seconds this stage needs for its share of the run, with a core for every thread.

        That is its busy time less the time it waited for a core, but at least its own processor
        time, which further cores do not shorten.
        """
        waited = self.busy if self.delay is None else self.delay
        return max(self.busy - waited, self.cpu, 0.0) / self.workers


@dataclass(frozen=True)
class Load:
    """The work of a whole run during the measurement.

    Attributes
    ----------
    seconds : float
        How long the measurement took.
    frames : int
        Frames that came out.
    cores : int
        Cores the process may use.
    cpu : float
        Processor time of the whole process in seconds.
    stages : tuple of StageLoad
        In the order in which a frame passes them.
    ring : tuple of StageName
        The stages in which a frame occupies a slot,
    slots : int
        and how many slots there are.
    cores_busy : float or None
        Busy share of the cores, all programs included; None if that is not known.
    live : bool
        Whether frames come at the source's own pace.
    source_fps : float or None
        That pace, if it is known.
    device : float
        Seconds the accelerator was busy.
    """

    seconds: float
    frames: int
    cores: int
    cpu: float
    stages: tuple[StageLoad, ...]
    ring: tuple[StageName, ...] = ()
    slots: int = 1
    cores_busy: float | None = None
    live: bool = False
    source_fps: float | None = None
    device: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """What limits a run.

    Attributes
    ----------
    limit : str
        "processor": all cores are busy with this program. "others": all cores are busy, to a good
        part with other programs. "accelerator": the GPU or the like works all the time. "stage":
        one stage does, and cores are free. "source": a live source has no more frames.
        "hand-over": nothing works all the time; frames wait for each other between the stages.
    stage : StageName
        Where an improvement helps most: the stage that limits, or that takes most of what limits.
    fps : float
        Frames per second measured.
    ceiling : float or None
        At most so many frames per second without the limit. For "processor", "accelerator" and
        "stage": if that stage took no time at all and used no processor time. For "others": if
        this program had the cores to itself. For "source": if frames came as fast as they are
        taken. For "hand-over": if no frame waited for another. None if it cannot be computed.
    next : str
        The limit after that: "processor", "accelerator", "slots", "source" or a stage.
    """

    limit: Limit
    stage: StageName
    fps: float
    ceiling: float | None
    next: str


def judge(load: Load) -> Verdict:
    """Find what limits a run and the speed it could reach without that.

    The ceiling is the lowest of these bounds, each without what limits:

    * every stage: one frame per worker in `StageLoad.floor`;
    * the processor: cores over the processor seconds of a frame;
    * the accelerator: one over its seconds of a frame;
    * the slots: so many frames on their way through the stages that hold one;
    * a live source: its frame rate.
    """
    seconds, frames = max(load.seconds, 1e-9), max(load.frames, 1)
    shares = {s.name: s.busy / seconds / s.workers for s in load.stages}
    busiest = max(load.stages, key=lambda s: shares[s.name])
    own = load.cpu / seconds / load.cores
    used = own if load.cores_busy is None else max(load.cores_busy, own)
    limit: Limit
    stage = busiest
    if used >= BUSY:
        limit = "others" if used - own >= _OTHERS else "processor"
        stage = max(load.stages, key=lambda s: s.cpu + s.library_cpu)
    elif load.device / seconds >= BUSY:
        limit = "accelerator"
        stage = next((s for s in load.stages if s.name == "inference"), busiest)
    elif shares[busiest.name] >= BUSY:
        limit = "stage"
    else:
        limit = "source" if load.live else "hand-over"
    bounds = _bounds(load, stage if limit in _OF_A_STAGE else None, frames)
    if limit == "hand-over":
        bounds.pop("slots", None)
    elif limit == "source":
        bounds.pop("source", None)
    lowest = min(bounds, key=lambda name: bounds[name], default="")
    return Verdict(limit, stage.name, load.frames / seconds, bounds.get(lowest), lowest)


def _bounds(load: Load, free: StageLoad | None, frames: int) -> dict[str, float]:
    """Return the highest frames per second for each limit, if the stage `free` cost nothing."""
    others = [s for s in load.stages if s is not free and s.frames]
    # A stage need not work on every frame that comes out; capture may also work on more.
    seconds: dict[str, float] = {s.name: s.floor / max(s.frames, frames) for s in others}
    spared = 0.0 if free is None else (free.cpu + free.library_cpu) / frames
    seconds["processor"] = (load.cpu / frames - spared) / load.cores
    if free is None or free.name != "inference":
        seconds["accelerator"] = load.device / frames
    held = sum(s.floor * s.workers for s in others if s.name in load.ring) / frames
    seconds["slots"] = held / load.slots
    if load.live and load.source_fps:
        seconds["source"] = 1 / load.source_fps
    return {name: 1 / value for name, value in seconds.items() if value > 0}
