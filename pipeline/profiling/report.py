"""Write the profile as one HTML page that needs nothing else: no network, script or fonts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from squeezedrive.pipeline.app.summary import frame_counts
from squeezedrive.pipeline.profiling.figures import cores, flat_settings
from squeezedrive.pipeline.profiling.plots import bars, histogram, line

STYLE = Path(__file__).parent / "report.css"

_TIME = (("busy", "busy"), ("waits for input", "idle"), ("waits for room", "blocked"))
_CPU = (("the stage's own threads", "busy"), ("threads of its libraries", "library"))


def build_report(figures: Mapping[str, Any]) -> str:
    """Return the page for the figures of `pipeline.profiling.figures.collect_figures`."""
    shares = [
        (name, [stage["busy_share"], stage["wait_in_share"], stage["wait_out_share"]])
        for name, stage in figures["stages"].items()
    ]
    sections = [
        _head(figures),
        _section("Throughput over time", line(
            figures["series"]["fps"], figures["series"]["fps_bucket_s"], "fps"
        ), "Frames that reached every output, per second."),
        _section("What the stages do", bars(shares, _TIME, 1.0, "%"),
                 "Share of the time of each stage's threads; the number is the busy share. A gap at"
                 " the right: the stage has ended, or its thread had no core between two"
                 " frames."),
        _section("Processor time of a frame", _cpu(figures),
                 "Milliseconds on a core, by the stage that uses them. The names of the threads"
                 " show the stage: libraries' threads inherit the name of the thread that starts"
                 " them."),
        _section("Latency", _latency(figures),
                 "From the arrival of a picture until all outputs had it."),
        _section("Waiting in the queues", _queues(figures),
                 "Frames, or groups of frames if the network takes several at once or sees one in"
                 " so many. A full queue waits for the stage it is named after; a stage waits for"
                 " its queue when it is empty."),
        _section("Figures of the stages", _stage_table(figures)),
        _section("Threads", _thread_table(figures)),
        _section("Settings", _table(
            ("key", "value"), list(flat_settings(figures).items())
        )),
    ]  # fmt: skip
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>SqueezeDrive: {escape(figures['source'])}</title>"
        f"<style>{STYLE.read_text(encoding='utf-8')}</style></head>\n<body><main>\n"
        + "\n".join(sections)
        + "\n</main></body></html>\n"
    )


def _head(figures: Mapping[str, Any]) -> str:
    backend, measured, warmup = figures["backend"], figures["measured"], figures["warmup"]
    verdict, cpu = figures["verdict"], figures["cpu"]
    tiles = [
        (f"{rate['mean']:.1f}", f"fps, {name}", rate["covers"])
        for name, rate in figures["fps"].items()
    ]
    tiles += [
        (f"{figures['latency_ms']['p50']:.0f} ms", "latency, half of the frames",
         f"p99 {figures['latency_ms']['p99']:.0f} ms"),
        (f"{cpu['ms_per_frame']['mean']:.1f} ms", "processor time a frame",
         f"{cpu['share']:.0%} of {cores(cpu['cores'])}"),
    ]  # fmt: skip
    shown = "".join(
        f"<li><b>{escape(value)}</b>{escape(label)}<small>{escape(note)}</small></li>"
        for value, label, note in tiles
    )
    advice = "".join(
        f"<li>{escape(one['text'])}"
        + (f": <code>--sweep {escape(one['sweep'])}</code>" if one["sweep"] else "")
        + "</li>"
        for one in verdict["try"]
    )
    return (
        f"<h1>{escape(figures['source'])}</h1>"
        f"<p class=note>{escape(figures['model'])} on {escape(backend['name'])},"
        f" {escape(backend['precision'])}: {escape(backend['runtime'])},"
        f" {escape(backend['device'])}. {measured['frames']:,} frames in"
        f" {measured['seconds']:.1f} s. Left out: the first {warmup['frames']:,} frames,"
        f" {warmup['seconds']:.1f} s, as warm-up, and {figures['drained']['frames']:,} that came"
        " out after the end of the source, when the first stages had no more work. Whole run:"
        f" {frame_counts(figures['frames'])}.</p>"
        f'<div class="verdict"><p>{escape(verdict["text"])}</p><p>To try:</p><ul>{advice}</ul>'
        f'</div><ul class="tiles">{shown}</ul>'
    )


def _section(title: str, body: str, note: str = "") -> str:
    below = f'<p class="note">{escape(note)}</p>' if note else ""
    return f"<section><h2>{escape(title)}</h2>{body}{below}</section>"


def _cpu(figures: Mapping[str, Any]) -> str:
    rows = [
        (name, [stage["thread_cpu_ms"], stage["library_cpu_ms"]])
        for name, stage in figures["stages"].items()
    ]
    rest = figures["cpu"]["ms_per_frame"]["mean"] - sum(sum(values) for _, values in rows)
    rows.append(("everything else", [max(rest, 0.0), 0.0]))
    return bars(rows, _CPU, max(sum(values) for _, values in rows), "ms")


def _latency(figures: Mapping[str, Any]) -> str:
    marks = [(name, figures["latency_ms"][name]) for name in ("p50", "p90", "p99")]
    return histogram(figures["latency_histogram_ms"], marks, "ms")


def _queues(figures: Mapping[str, Any]) -> str:
    series, parts = figures["series"], []
    for name, queue in figures["queues"].items():
        parts.append(
            f"<h3>before {escape(name)}: {queue['mean']:.1f} of {queue['depth']} on average,"
            f" full {queue['full_share']:.0%} and empty {queue['empty_share']:.0%} of the time</h3>"
        )
        values = series["queues"][name]
        parts.append(line(values, series["bucket_s"], "", queue["depth"], 86))
    return "".join(parts)


def _stage_table(figures: Mapping[str, Any]) -> str:
    head = ("stage", "threads", "frames", "mean ms", "p50", "p90", "p99", "cpu ms", "libraries",
            "waited for a core, ms")  # fmt: skip
    rows = []
    for name, stage in figures["stages"].items():
        busy, queued = stage["busy_ms"], stage["run_queue_ms"]
        values = [busy[key] for key in ("mean", "p50", "p90", "p99")]
        values += [stage["thread_cpu_ms"], stage["library_cpu_ms"]]
        rows.append([name, stage["workers"], stage["frames"], *(f"{v:.1f}" for v in values),
                     "unknown" if queued is None else f"{queued:.1f}"])  # fmt: skip
    for step, times in figures["device_ms"].items():
        rows.append([f"accelerator: {step}", "", "", *(f"{times[key]:.2f}" for key in
                     ("mean", "p50", "p90", "p99")), "", "", ""])  # fmt: skip
    return _table(head, rows)


def _thread_table(figures: Mapping[str, Any]) -> str:
    rows = [
        [
            thread["name"],
            thread["count"],
            thread["stage"] or "none",
            "the stage itself" if thread["own"] else "a library or the program",
            f"{thread['cpu_share']:.1%}",
            f"{thread['cpu_ms_per_frame']:.2f}",
        ]
        for thread in figures["threads"]
        if thread["cpu_share"] >= 0.0005
    ]
    return _table(
        ("thread", "how many", "works for", "started by", "of a core", "ms a frame"), rows
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(value))}</td>" for value in row) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="wide"><table><thead><tr>{cells}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
