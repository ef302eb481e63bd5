"""The status of a run for the live page, its health check and its metrics."""

from __future__ import annotations

from typing import Literal, TypedDict, get_args

from squeezedrive.pipeline.core.source import ConnectionState

State = Literal[ConnectionState, "ended"]
STATES: tuple[State, ...] = get_args(State)

RECENT = 5.0  # seconds; a source whose newest result is older has a problem


class SourceStatus(TypedDict):
    """The status of one source.

    Attributes
    ----------
    id : int
        Its position among the sources of the run, from 0.
    name : str
        How the user named it, without passwords.
    state : str
        "connecting" until the first frame, "ended" when it is over or no more are wanted,
        "given up" when the source or one of its outputs has failed.
    since_s : float
        Seconds it has been in this state.
    fps : float
        Frames that reach the outputs, per second, over the last seconds.
    read, processed : int
        Frames taken from the source, and frames that reached the outputs.
    dropped : dict of str to int
        Frames that did not, by reason.
    latency_ms : dict of str to float
        Percentiles p50, p95 and p99 of the time from a picture's capture to its arrival in all
        outputs.
    age_ms : float or None
        Milliseconds since the newest frame in the outputs was captured; None before the first.
    now, total : dict of str to int
        Objects by class: in the newest frame, and in all frames together.
    reconnects : int
        How often the connection was opened again.
    """

    id: int
    name: str
    state: State
    since_s: float
    fps: float
    read: int
    processed: int
    dropped: dict[str, int]
    latency_ms: dict[str, float]
    age_ms: float | None
    now: dict[str, int]
    total: dict[str, int]
    reconnects: int


class Status(TypedDict):
    """The status of the run.

    Attributes
    ----------
    uptime_s : float
        Seconds since it began.
    model, backend : str
        For people: "squeezedrive-v3", "cpu int8".
    sources : list of SourceStatus
    """

    uptime_s: float
    model: str
    backend: str
    sources: list[SourceStatus]


class SourceHealth(TypedDict):
    """Whether a source delivers frames, and if not, why."""

    id: int
    name: str
    healthy: bool
    reason: str


class Health(TypedDict):
    """Whether all sources deliver frames."""

    healthy: bool
    sources: list[SourceHealth]


def health(status: Status) -> Health:
    """Check that every source that has not ended has delivered within the last `RECENT` seconds."""
    sources = [_source_health(source) for source in status["sources"]]
    return Health(healthy=all(source["healthy"] for source in sources), sources=sources)


def _source_health(source: SourceStatus) -> SourceHealth:
    state, age = source["state"], source["age_ms"]
    reason = ""
    if state == "given up":
        reason = "given up"
    elif state != "ended" and age is None:
        reason = f"{state}, no frame yet"
    elif state != "ended" and age is not None and age > RECENT * 1e3:
        reason = f"{state}, no frame for {age / 1e3:.0f} s"
    return SourceHealth(id=source["id"], name=source["name"], healthy=not reason, reason=reason)
