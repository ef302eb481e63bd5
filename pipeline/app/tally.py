"""The figures of a run through many files: of each file, and in total."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

from squeezedrive.engines.files import readable
from squeezedrive.pipeline.app.summary import frame_counts
from squeezedrive.pipeline.sources.collect import SourceFile

# "done before" by an earlier run, "left" for a later one.
FileState = Literal["done", "failed", "interrupted", "done before", "left"]

NAME_WIDTH = 40  # columns of the table of failures


class Tally:
    """Collects the outcome and the detections of each file of a run.

    A few figures are kept of each file, whatever its length.

    Attributes
    ----------
    files : list of dict
        Of each file that had its turn, in order: name, state, error, seconds, frames, detections,
        outputs and warnings.
    """

    def __init__(self, class_names: tuple[str, ...]) -> None:
        self.files: list[dict[str, Any]] = []
        self.model = self.backend = None
        self._class_names = class_names
        self._seconds = self._cpu = 0.0

    def add(
        self,
        file: SourceFile,
        state: FileState,
        error: Exception | None = None,
        summary: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a file; `summary`, from `summarise`, if it was opened."""
        entry: dict[str, Any] = {"name": readable(file.spec), "state": state}
        if file.track is not None:
            entry["track"] = file.track
        if error is not None:
            entry["error"] = readable(str(error))
        if summary is not None:
            keys = ("seconds", "frames", "detections", "outputs", "warnings")
            entry |= {key: summary[key] for key in keys}
            self._seconds += summary["seconds"]
            self._cpu += summary["cpu"]["seconds"]
            self.model, self.backend = summary["model"], summary["backend"]
        self.files.append(entry)

    def count(self, state: FileState) -> int:
        """Return how many files are in a state."""
        return sum(file["state"] == state for file in self.files)

    def summarise(self, wall_seconds: float, cores: int, ended: str) -> dict[str, Any]:
        """Collect the figures of all files, with the keys that `summary.summarise` has.

        `wall_seconds` is how long it took, openings and all, `cores` how many the process may use,
        and `ended` is "complete" or what stopped the run.
        """
        opened = [file for file in self.files if "frames" in file]
        frames = {
            key: sum(file["frames"][key] for file in opened)
            for key in ("read", "processed", "detected")
        }
        lost = {
            key: dict(sum((Counter(file["frames"][key]) for file in opened), Counter[str]()))
            for key in ("dropped", "skipped")
        }
        found = sum((Counter(file["detections"]) for file in opened), Counter[str]())
        seconds = max(wall_seconds, 1e-9)
        states = Counter(file["state"] for file in self.files)
        return {
            "schema": 1,
            "source": f"{len(self.files)} files",
            "sources": self.files,
            "files": {state.replace(" ", "_"): count for state, count in states.items()},
            "model": self.model,
            "backend": self.backend,
            "ended": ended,
            "seconds": wall_seconds,
            "seconds_in_files": self._seconds,
            "frames": {**frames, **lost},
            "detections": {name: found[name] for name in self._class_names},
            "fps": {"pipeline": frames["processed"] / seconds},
            "cpu": {"cores": cores, "seconds": self._cpu, "share": self._cpu / seconds / cores},
            "outputs": [name for file in opened for name in file["outputs"]],
            "warnings": [line for file in opened for line in file["warnings"]],
        }


def format_tally(summary: Mapping[str, Any]) -> str:
    """Lay the figures of many files out as text for a terminal, failures last."""
    counts = [f"{count:,} {state.replace('_', ' ')}" for state, count in summary["files"].items()]
    lines = [f"files       {', '.join(counts)}"]
    if summary["backend"] is not None:
        found = [f"{count:,} {name}" for name, count in summary["detections"].items()]
        backend = summary["backend"]
        lines += [
            f"frames      {frame_counts(summary['frames'])}",
            f"detections  {', '.join(found)}",
            f"speed       {summary['fps']['pipeline']:.1f} fps end to end in"
            f" {summary['seconds']:.1f} s, opening and finishing files included",
            f"model       {summary['model']}, {backend['name']} {backend['precision']},"
            f" {backend['runtime']}",
        ]
    outputs = summary["outputs"]
    if len(outputs) > 3:
        lines.append(f"wrote       {len(outputs):,} outputs, {outputs[0]} to {outputs[-1]}")
    else:
        lines += [f"wrote       {name}" for name in outputs]
    failed = [file for file in summary["sources"] if file["state"] == "failed"]
    if failed:
        width = min(max(len(file["name"]) for file in failed), NAME_WIDTH)
        lines += ["", f"{'failed':<{width}}  why"]
    for file in failed:
        why = file["error"].removeprefix(f"{file['name']}: ")
        lines.append(f"{_end_of(file['name'], width):<{width}}  {why}")
    return "\n".join(lines)


def _end_of(name: str, width: int) -> str:
    return name if len(name) <= width else f"...{name[3 - width :]}"
