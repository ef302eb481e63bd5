"""The program as its users start it."""

import json
import os
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from squeezedrive.engines.model.weights import DEFAULT, load_weights, save_weights
from squeezedrive.pipeline.app import command_line
from tests.support.media import picture, times, write_video
from tests.support.program import lines_of, start

ROOT = Path(__file__).resolve().parent.parent


def test_a_drive_becomes_a_video_and_readable_detections(
    run: Any, drive: Path, tmp_path: Path
) -> None:
    video, jsonl, kitti = tmp_path / "out.mp4", tmp_path / "out.jsonl", tmp_path / "kitti"
    figures = tmp_path / "figures.json"
    code, out, err = run(
        drive,
        "-n",
        "12",
        "-o",
        video,
        "--jsonl",
        jsonl,
        "--kitti",
        kitti,
        "--summary",
        figures,
        "-t",
        "0.001",
        "--no-track",
    )
    assert code == 0, err
    assert times(video) == [Fraction(i, 25) for i in range(12)]

    header, *lines = lines_of(jsonl)
    assert header["model"]["name"] == "squeezedrive-v3"
    assert header["config"]["detect"]["threshold"] == 0.001
    assert header["config"]["track"] == {"enabled": False, "every": 1}
    assert header["source"]["kind"] == "file"
    assert [line["frame"] for line in lines] == list(range(12))
    assert [line["pts"] for line in lines] == [pytest.approx(i / 25) for i in range(12)]
    assert {(line["width"], line["height"]) for line in lines} == {(320, 192)}
    found = [d for line in lines for d in line["detections"]]
    assert found
    for detection in found:
        assert detection["class"] in ("car", "pedestrian", "cyclist")
        assert 0.001 <= detection["score"] <= 1
        x1, y1, x2, y2 = detection["box"]
        assert 0 <= x1 <= x2 <= 319
        assert 0 <= y1 <= y2 <= 191

    files = sorted(kitti.iterdir())
    assert [path.name for path in files] == [f"{i:06d}.txt" for i in range(12)]
    rows = [row.split() for path in files for row in path.read_text().splitlines()]
    assert len(rows) == len(found)
    assert [float(row[-1]) for row in rows] == [d["score"] for d in found]

    summary = json.loads(figures.read_text())
    assert summary["frames"] == {
        "read": 12, "processed": 12, "detected": 12, "dropped": {}, "skipped": {},
    }  # fmt: skip
    assert sum(summary["detections"].values()) == len(found)
    assert summary["ended"] == "complete"
    assert list(summary["stages"]) == [
        "capture", "preprocess", "inference", "postprocess", "render", "sinks",
    ]  # fmt: skip
    for part in ("12 read, 12 processed", "fps end to end", "limit", str(video)):
        assert part in out


def test_the_network_may_see_only_every_third_frame(run: Any, drive: Path, tmp_path: Path) -> None:
    out, jsonl, summary = (tmp_path / f"out{end}" for end in (".mp4", ".jsonl", ".json"))
    code, text, _ = run(drive, "-n", "12", "-o", out, "--jsonl", jsonl, "--summary", summary,
                        "--detect-every", "3")  # fmt: skip
    assert code == 0
    assert "12 read, 12 processed (4 by the network, between them by tracking)" in text
    header, *lines = lines_of(jsonl)
    assert header["config"]["track"] == {"enabled": True, "every": 3}
    assert [line["detected"] for line in lines] == [True, False, False] * 4
    assert len(times(out)) == 12
    figures = json.loads(summary.read_text())
    assert figures["frames"]["detected"] == 4
    assert figures["stages"]["inference"]["frames"] == 4
    assert figures["stages"]["sinks"]["frames"] == 12


def test_tracks_video_files_but_not_pictures_unless_asked(
    run: Any, clip: Path, tmp_path: Path
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for index in range(3):
        cv2.imwrite(str(pictures / f"{index}.png"), np.full((96, 160, 3), 90 * index, np.uint8))
    jsonl = tmp_path / "out.jsonl"
    for source, option, tracked in (
        (clip, None, True), (clip, "--no-track", False),
        (pictures, None, False), (pictures, "--track", True),
    ):  # fmt: skip
        options = "--no-video", "-t", "0.001", "--jsonl", jsonl, "-y", "-n", "3"
        assert run(source, *options, *([option] if option else []))[0] == 0
        header, *lines = lines_of(jsonl)
        assert header["config"]["track"] == {"enabled": tracked, "every": 1}
        assert ["detected" in line for line in lines] == [tracked] * 3


def test_refuses_untracked_objects_between_frames(refused: Any, clip: Path) -> None:
    message = refused(clip, "--no-track", "--detect-every", "2")
    assert "track: expected every: 1 with enabled: false, got 2" in message


def test_results_do_not_depend_on_the_number_of_slots(
    run: Any, drive: Path, tmp_path: Path
) -> None:
    found = []
    for batch in (1, 3):
        jsonl = tmp_path / f"{batch}.jsonl"
        options = "--no-video", "-t", "0.01", "--jsonl", jsonl, "--set", f"queue.batch={batch}"
        assert run(drive, "-n", "12", *options)[0] == 0
        found.append(lines_of(jsonl)[1:])
    assert found[0] == found[1]
    assert sum(len(line["detections"]) for line in found[0]) > 0


def test_nothing_is_drawn_unless_an_output_needs_it(run: Any, clip: Path, tmp_path: Path) -> None:
    jsonl = tmp_path / "out.jsonl"
    code, _, _ = run(clip, "--no-video", "--jsonl", jsonl)
    assert code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl"]
    assert len(lines_of(jsonl)) == 13


def test_the_default_output_lies_beside_the_source(run: Any, refused: Any, tmp_path: Path) -> None:
    source = tmp_path / "my drive.mp4"
    write_video(source, 12)
    code, out, _ = run(source)
    assert code == 0
    output = tmp_path / "my drive.detected.mp4"
    assert times(output) == times(source)
    assert str(output) in out
    before = output.read_bytes()
    assert "exists already; --overwrite replaces it" in refused(source)
    assert output.read_bytes() == before
    assert run(source, "--overwrite", "--frames", "5")[0] == 0
    assert len(times(output)) == 5


@pytest.mark.parametrize("option", ["-o", "--jsonl", "--summary"])
@pytest.mark.parametrize("link", [None, "symlink", "hard link"])
def test_an_output_may_not_be_the_source(
    refused: Any, tmp_path: Path, option: str, link: str | None
) -> None:
    source = target = tmp_path / "drive.mp4"
    write_video(source, 3)
    before = source.read_bytes()
    if link is not None:
        target = tmp_path / "other.mp4"
        target.symlink_to(source) if link == "symlink" else target.hardlink_to(source)
    others = [] if option == "-o" else ["--no-video"]
    assert "is the source itself" in refused(source, option, target, "-y", *others)
    assert source.read_bytes() == before


@pytest.mark.parametrize("option", ["--jsonl", "--mot", "--summary"])
def test_existing_outputs_need_overwrite(
    refused: Any, clip: Path, tmp_path: Path, option: str
) -> None:
    path = tmp_path / "old"
    path.write_text("precious")
    message = refused(clip, "--no-video", option, path)
    assert f"{path}: exists already; --overwrite replaces it" in message
    assert path.read_text() == "precious"


def test_two_outputs_may_not_share_a_file(refused: Any, clip: Path, tmp_path: Path) -> None:
    message = refused(clip, "--no-video", "--jsonl", "-", "--mot", "-")
    assert "-: is named for two outputs" in message
    same = tmp_path / "same.x"
    message = refused(clip, "--no-video", "--jsonl", same, "--summary", same)
    assert "is named for two outputs" in message
    assert not same.exists()


def test_a_video_output_may_not_be_a_pipe(refused: Any, clip: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    assert "expected a regular file" in refused(clip, "-o", tmp_path / "pipe.mp4", "-y")


def test_an_explicit_output_is_written_whatever_the_configuration_says(
    run: Any, clip: Path, tmp_path: Path
) -> None:
    video = tmp_path / "out.mp4"
    assert run(clip, "-o", video, "--config", ROOT / "configs" / "profile.yaml")[0] == 0
    assert len(times(video)) == 12
    with pytest.raises(SystemExit) as caught:
        run(clip, "-o", video, "--no-video")
    assert caught.value.code == 2


def test_the_summary_reports_that_all_frames_were_too_old(run: Any, clip: Path) -> None:
    # The queue holds all 12 frames: from a shorter one, newer frames might push some out before
    # their age is checked.
    code, out, _ = run(clip, "--no-video", "--policy", "bounded_age",
                       "--set", "queue.max_age=0.0000001", "--set", "queue.depth=12")  # fmt: skip
    assert code == 0
    assert "12 read, 0 processed, 12 too old" in out


def test_file_names_that_the_system_refuses_are_errors(
    refused: Any, clip: Path, tmp_path: Path
) -> None:
    long = tmp_path / ("x" * 300 + ".mp4")
    assert "File name too long" in refused(clip, "-o", long)
    assert "no such file" in refused(long, "--no-video")


def test_start_and_frames_choose_a_part(run: Any, clip: Path, tmp_path: Path) -> None:
    jsonl = tmp_path / "out.jsonl"
    video = tmp_path / "out.mp4"
    run(clip, "--start", "0.2", "--frames", "4", "--jsonl", jsonl, "-o", video)
    assert [line["frame"] for line in lines_of(jsonl)[1:]] == [5, 6, 7, 8]
    assert times(video) == [Fraction(i, 25) for i in range(4)]


def test_classes_and_top_n_limit_what_is_found(run: Any, clip: Path, tmp_path: Path) -> None:
    jsonl = tmp_path / "out.jsonl"
    run(clip, "--no-video", "-t", "0", "--classes", "Pedestrian,CYCLIST", "--top-n", "7",
        "--jsonl", jsonl)  # fmt: skip
    found = [line["detections"] for line in lines_of(jsonl)[1:]]
    assert {d["class"] for one in found for d in one} <= {"pedestrian", "cyclist"}
    assert 0 < max(len(one) for one in found) <= 7


@pytest.mark.parametrize(("fit", "warned"), [("band", True), ("letterbox", False)])
def test_warns_if_fit_differs_from_training(
    run: Any, small_network: Path, clip: Path, tmp_path: Path, fit: str, warned: bool
) -> None:
    shipped = load_weights(DEFAULT)
    profile = shipped.profile.model_copy(update={"fit": "letterbox"})
    save_weights(replace(shipped, profile=profile), tmp_path / "mine.npz")
    network = tmp_path / "mine.yaml"
    network.write_text(small_network.read_text().replace(str(DEFAULT), "mine.npz"))
    code, _, err = run(clip, "-n", "2", "--no-video", "--fit", fit,
                       "--set", f"network={network}")  # fmt: skip
    assert code == 0, err
    assert ("fitted by letterbox, not band: use --fit letterbox" in err) == warned


@pytest.mark.parametrize("fit", ["band", "letterbox", "stretch"])
def test_boxes_are_in_source_pixels_with_every_fit(run: Any, tmp_path: Path, fit: str) -> None:
    image, jsonl = tmp_path / "odd.png", tmp_path / "out.jsonl"
    cv2.imwrite(str(image), picture(0, (641, 359)))
    run(image, "--no-video", "-t", "0", "--fit", fit, "--jsonl", jsonl)
    boxes = [d["box"] for line in lines_of(jsonl)[1:] for d in line["detections"]]
    assert max(x2 for _, _, x2, _ in boxes) > 400
    assert all(x1 >= 0 and x2 <= 640 and y1 >= 0 and y2 <= 358 for x1, y1, x2, y2 in boxes)


@pytest.mark.parametrize("option", ["--jsonl", "--mot"])
def test_standard_output_has_only_the_requested_output(
    small_network: Path, clip: Path, option: str
) -> None:
    process = start(
        clip, "--no-video", option, "-", "-t", "0.001", "--set", f"network={small_network}"
    )
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    if option == "--jsonl":
        assert len([json.loads(line) for line in out.splitlines()]) == 13
    else:
        assert out
        assert {line.count(",") for line in out.splitlines()} == {8}
    assert "12 processed" in err


def test_runs_from_another_folder_with_spaces_in_its_name(
    small_network: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "a folder with spaces"
    folder.mkdir()
    process = start("demo:", "-n", "12", "--set", f"network={small_network}", cwd=folder)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert [path.name for path in folder.iterdir()] == ["demo.detected.mp4"]
    assert len(times(folder / "demo.detected.mp4")) == 12


@pytest.mark.parametrize(
    ("started", "program"),
    [
        ("./run_pipeline.py", "run_pipeline.py"),
        ("/usr/bin/squeezedrive", "squeezedrive"),
        ("/x/squeezedrive/__main__.py", "python -m squeezedrive"),
    ],
)
def test_help_shows_the_command_that_the_user_typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], started: str, program: str
) -> None:
    monkeypatch.setattr(sys, "argv", [started])
    with pytest.raises(SystemExit):
        command_line.main(["--help"])
    text = capsys.readouterr().out
    assert text.startswith(f"usage: {program} ")
    examples = text[text.index("examples:") :].splitlines()
    assert f"  {program} drive.mp4 " in examples[1]
    assert examples[1].index("writes") == command_line.NOTES_AT
