"""Compare two profiles: what changed beyond noise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from squeezedrive.engines.json_text import load_json
from squeezedrive.pipeline.core.errors import ProfileError
from squeezedrive.pipeline.profiling.figures import SCHEMA, VERSION, flat_settings

# Standard errors of a difference. Errors are estimated from ten parts of a run, so that chance
# alone goes beyond this with one figure in 130, or in one comparison of nine figures in 15.
_ERRORS = 3.0
# Two runs of the same program differ by more than the scatter in each: clock rate, placement in
# memory, other work of the machine.
_LEAST = 0.02
_LEAST_MS = 0.02  # of a stage that hardly takes any time


@dataclass(frozen=True)
class Change:
    """One figure in both profiles."""

    name: str
    unit: str
    before: float
    after: float
    noise: float | None  # how far chance may move the difference; None if a run was too short
    more_is_better: bool

    @property
    def verdict(self) -> str:
        """Return "better", "worse", "same" or, without noise to compare with, "unknown"."""
        if self.noise is None:
            return "unknown"
        difference = self.after - self.before
        if abs(difference) <= self.noise:
            return "same"
        return "better" if (difference > 0) == self.more_is_better else "worse"


def read_profile(path: Path) -> dict[str, Any]:
    """Read a summary.json, or that of a folder.

    Raises
    ------
    ProfileError
        If it cannot be read or is not a profile.
    """
    if path.is_dir():
        path = path / "summary.json"
    try:
        profile = load_json(path.read_bytes())
    except OSError as error:
        raise ProfileError(f"{path}: cannot read the profile: {error.strerror}") from None
    except ValueError:
        raise ProfileError(f"{path}: not valid JSON, expected summary.json of a profile") from None
    if not isinstance(profile, dict) or profile.get("schema") != SCHEMA:
        raise ProfileError(f"{path}: expected summary.json of --profile, got another JSON file")
    if profile.get("version") != VERSION:
        raise ProfileError(
            f"{path}: expected version {VERSION} of the profile, got {profile.get('version')};"
            " profile again with this program"
        )
    return profile


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Return the figures to compare, those of the whole run first."""
    found = [
        _change("pipeline", "fps", before["fps"]["pipeline"], after["fps"]["pipeline"], True),
        _change(
            "processor", "ms a frame", before["cpu"]["ms_per_frame"], after["cpu"]["ms_per_frame"]
        ),
        _change("latency", "ms", before["latency_ms"], after["latency_ms"]),
    ]
    for name, stage in before["stages"].items():
        if name in after["stages"]:
            other = after["stages"][name]
            found.append(_change(name, "ms busy", stage["busy_ms"], other["busy_ms"]))
    return found


def format_comparison(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Lay the comparison of two profiles out as text for a terminal.

    Raises
    ------
    ProfileError
        If something that a profile holds is missing or damaged.
    """
    try:
        return _render(before, after)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ProfileError(f"one of the files is not a complete profile: {error!r}") from None


def _render(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    lines = []
    for key in ("source", "model", "backend"):
        if before[key] != after[key]:
            lines.append(f"{key} differs: {_short(before[key])}, now {_short(after[key])}")
    old, new = flat_settings(before), flat_settings(after)
    for key in old | new:
        if old.get(key) != new.get(key):
            lines.append(f"{key} was {old.get(key)}, is {new.get(key)}")
    for profile, name in ((before, "first"), (after, "second")):
        if profile["verdict"]["limit"] == "others":
            lines.append(f"other programs disturbed the {name} run")
    if lines:
        lines.append("")
    lines.append("figure          before     after   change    noise")
    for one in changes(before, after):
        ratio = f"{one.after / one.before - 1:+.1%}" if one.before else "?"
        noise = "?" if one.noise is None or not one.before else f"{one.noise / one.before:.1%}"
        lines.append(
            f"{one.name:<12} {one.before:9.2f} {one.after:9.2f} {ratio:>8} {noise:>8}"
            f"  {one.verdict:<7} {one.unit}"
        )
    limits = [f"{p['verdict']['limit']} ({p['verdict']['stage']})" for p in (before, after)]
    lines += ["", f"limit: {limits[0]}" + (f", now {limits[1]}" if limits[0] != limits[1] else "")]
    return "\n".join(lines)


def _change(
    name: str,
    unit: str,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    more_is_better: bool = False,
) -> Change:
    noise = None
    if before["error"] is not None and after["error"] is not None:
        chance = _ERRORS * math.hypot(before["error"], after["error"])
        noise = max(chance, _LEAST * abs(before["mean"]), _LEAST_MS if "ms" in unit else 0.0)
    return Change(name, unit, before["mean"], after["mean"], noise, more_is_better)


def _short(value: Any) -> str:
    return ", ".join(map(str, value.values())) if isinstance(value, Mapping) else str(value)
