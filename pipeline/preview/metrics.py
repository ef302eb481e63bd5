"""The figures of a run as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from squeezedrive.pipeline.core.controls import Controls
from squeezedrive.pipeline.preview.status import STATES, Status

QUANTILES = {"0.5": "p50", "0.95": "p95", "0.99": "p99"}


class Metrics(Collector):
    """Turns the status of a run into metrics on request.

    Sources are labelled by their number, as two may have the same name; squeezedrive_source_info
    has the names.
    """

    def __init__(self, status: Callable[[], Status], controls: Controls) -> None:
        self._status = status
        self._controls = controls
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def render(self) -> bytes:
        """Return all metrics in the Prometheus text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics of this moment."""
        status = self._status()
        yield InfoMetricFamily(
            "squeezedrive",
            "Model and back end",
            {"model": status["model"], "backend": status["backend"]},
        )
        yield _gauge("uptime_seconds", "Time since the run began", status["uptime_s"])
        yield _gauge("threshold", "Lowest score of a box that is kept", self._controls.threshold)
        yield from _source_metrics(status)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"squeezedrive_{name}", text, value)


def _source_metrics(status: Status) -> Iterable[Metric]:
    def counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
        return CounterMetricFamily(f"squeezedrive_{name}", text, labels=["source", *labels])

    info = InfoMetricFamily("squeezedrive_source", "Name of a source", labels=["source"])
    state = GaugeMetricFamily(
        "squeezedrive_source_state", "1 for the state it is in", labels=["source", "state"]
    )
    age = GaugeMetricFamily(
        "squeezedrive_frame_age_seconds", "Time since the newest result", labels=["source"]
    )
    latency = SummaryMetricFamily(
        "squeezedrive_latency_seconds", "From capture to outputs", labels=["source"]
    )
    reconnects = counter("reconnects", "Connections opened again")
    read = counter("frames_read", "Frames taken from the source")
    frames = counter("frames", "Frames that reached the outputs")
    dropped = counter("frames_dropped", "Frames that did not, by reason", "reason")
    detections = counter("detections", "Objects in all frames together", "class")
    for source in status["sources"]:
        label = str(source["id"])
        info.add_metric([label], {"name": source["name"]})
        for known in STATES:
            state.add_metric([label, known], float(known == source["state"]))
        if source["age_ms"] is not None:
            age.add_metric([label], source["age_ms"] / 1e3)
        if source["processed"]:
            for quantile, key in QUANTILES.items():
                labels = {"source": label, "quantile": quantile}
                latency.add_sample(latency.name, labels, source["latency_ms"][key] / 1e3)
        reconnects.add_metric([label], source["reconnects"])
        read.add_metric([label], source["read"])
        frames.add_metric([label], source["processed"])
        for reason, count in source["dropped"].items():
            dropped.add_metric([label, reason], count)
        for name, count in source["total"].items():
            detections.add_metric([label, name], count)
    return info, state, age, latency, reconnects, read, frames, dropped, detections
