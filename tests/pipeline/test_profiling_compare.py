import copy
import json
from pathlib import Path
from typing import Any

import pytest

from squeezedrive.pipeline.profiling.__main__ import main
from squeezedrive.pipeline.profiling.compare import Change, changes, format_comparison
from squeezedrive.pipeline.profiling.figures import SCHEMA, VERSION

PROFILE: dict[str, Any] = {
    "schema": SCHEMA,
    "version": VERSION,
    "source": "drive.mp4",
    "model": "squeezedrive-v3",
    "backend": {"name": "cpu", "precision": "int8"},
    "config": {"backend": "auto", "video": {"preset": "veryfast", "write": True}},
    "fps": {"pipeline": {"mean": 40.0, "error": 0.5}},
    "cpu": {"ms_per_frame": {"mean": 45.0, "error": 0.1}},
    "latency_ms": {"mean": 150.0, "error": 2.0},
    "stages": {"sinks": {"busy_ms": {"mean": 15.0, "error": 0.1}}},
    "verdict": {"limit": "processor", "stage": "inference"},
}


def changed(**values: Any) -> dict[str, Any]:
    profile = copy.deepcopy(PROFILE)
    for path, value in values.items():
        target = profile
        *groups, key = path.split("__")
        for group in groups:
            target = target[group]
        target[key] = value
    return profile


def verdicts(before: dict[str, Any], after: dict[str, Any]) -> dict[str, str]:
    return {change.name: change.verdict for change in changes(before, after)}


def test_equal_profiles_do_not_differ() -> None:
    assert set(verdicts(PROFILE, PROFILE).values()) == {"same"}


def test_only_differences_beyond_noise_are_reported() -> None:
    # Noise of the rate: 3 sqrt(0.5² + 0.5²) = 2.12; of the processor time: 2 % of 45 = 0.9.
    assert verdicts(PROFILE, changed(fps__pipeline__mean=42.0))["pipeline"] == "same"
    assert verdicts(PROFILE, changed(fps__pipeline__mean=42.2))["pipeline"] == "better"
    assert verdicts(PROFILE, changed(fps__pipeline__mean=37.8))["pipeline"] == "worse"
    assert verdicts(PROFILE, changed(cpu__ms_per_frame__mean=44.2))["processor"] == "same"
    assert verdicts(PROFILE, changed(cpu__ms_per_frame__mean=44.0))["processor"] == "better"
    assert verdicts(PROFILE, changed(latency_ms__mean=170.0))["latency"] == "worse"


def test_stages_with_tiny_times_are_not_judged() -> None:
    before = changed(stages__sinks__busy_ms={"mean": 0.03, "error": 0.0001})
    after = changed(stages__sinks__busy_ms={"mean": 0.02, "error": 0.0001})
    assert verdicts(before, after)["sinks"] == "same"
    after = changed(stages__sinks__busy_ms={"mean": 0.06, "error": 0.0001})
    assert verdicts(before, after)["sinks"] == "worse"


def test_a_change_from_zero_has_no_percentage() -> None:
    before = changed(stages__sinks__busy_ms={"mean": 0.0, "error": 0.0})
    text = format_comparison(before, changed(stages__sinks__busy_ms={"mean": 170.0, "error": 0.1}))
    (line,) = [line for line in text.splitlines() if line.startswith("sinks")]
    assert line.split() == ["sinks", "0.00", "170.00", "?", "?", "worse", "ms", "busy"]


def test_runs_too_short_for_an_error_are_not_judged() -> None:
    assert Change("latency", "ms", 10.0, 20.0, None, False).verdict == "unknown"
    after = changed(fps__pipeline={"mean": 80.0, "error": None})
    assert verdicts(PROFILE, after)["pipeline"] == "unknown"


def test_the_comparison_names_settings_and_limits_that_differ() -> None:
    after = changed(
        config__video__preset="ultrafast",
        source="other.mp4",
        verdict={"limit": "others", "stage": "sinks"},
        stages__sinks__busy_ms={"mean": 9.0, "error": 0.1},
    )
    text = format_comparison(PROFILE, after)
    assert "source differs: drive.mp4, now other.mp4" in text
    assert "video.preset was veryfast, is ultrafast" in text
    assert "video.write" not in text
    assert "other programs disturbed the second run" in text
    assert "limit: processor (inference), now others (sinks)" in text
    (line,) = [line for line in text.splitlines() if line.startswith("sinks")]
    assert line.split() == ["sinks", "15.00", "9.00", "-40.0%", "2.8%", "better", "ms", "busy"]


def test_the_command_prints_the_comparison(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = tmp_path / "a", tmp_path / "b.json"
    a.mkdir()
    (a / "summary.json").write_text(json.dumps(PROFILE))
    b.write_text(json.dumps(changed(fps__pipeline__mean=50.0)))
    assert main(["compare", str(a), str(b)]) == 0
    assert "better" in capsys.readouterr().out


@pytest.mark.parametrize(
    "damage",
    [{"fps": None}, {"config": []}, {"stages": {"sinks": {"busy_ms": {"mean": "x", "error": 1}}}},
     {"latency_ms": {"mean": 1.0, "error": 10**400}},
     {"latency_ms": {"mean": 10**400, "error": 1}}],
)  # fmt: skip
def test_a_damaged_profile_is_an_error_of_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: dict[str, Any]
) -> None:
    path = tmp_path / "summary.json"
    path.write_text(json.dumps({**PROFILE, **damage}))
    assert main(["compare", str(path), str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: one of the files is not a complete profile: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot read the profile: No such file"),
        ("{", "not valid JSON"),
        ('{"schema": 1}', "expected summary.json of --profile"),
        ("[]", "expected summary.json of --profile"),
        (
            json.dumps({"schema": SCHEMA, "version": 99}),
            "expected version 1 of the profile, got 99",
        ),
    ],
)
def test_other_files_than_profiles_are_an_error_of_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, message: str
) -> None:
    path = tmp_path / "summary.json"
    if text is not None:
        path.write_text(text)
    assert main(["compare", str(path), str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}: ")
    assert message in error
    assert error.count("\n") == 1
