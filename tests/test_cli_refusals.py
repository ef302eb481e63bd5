"""Arguments and files that the program refuses, and the messages that users see."""

import os
from pathlib import Path
from typing import Any

import pytest

from squeezedrive.pipeline.app import command_line
from tests.support.media import write_video


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_video(path, 2, size=(320, 192))
    return path


def test_wrong_options_are_an_error_of_one_line(refused: Any, clip: Path, tmp_path: Path) -> None:
    video = tmp_path / "out.mp4"
    for arguments, part in (
        (["--threshold", "1.5"], "--threshold: detect.threshold: expected less than or equal to 1"),
        (["--threshold", "high"], "--threshold: detect.threshold"),
        (["--classes", "car,bus"], "unknown class 'bus', the network knows car, pedestrian"),
        (["--fit", "crop"], "--fit: fit.mode: expected 'band', 'letterbox' or 'stretch'"),
        (["--backend", "gpu"], "--backend: backend: expected 'auto', 'tensorrt', 'torch' or 'cpu'"),
        (["--frames", "0"], "--frames: source.frames"),
        (["--detect-every", "0"], "--detect-every: track.every"),
        (["--start", "1e20"], "--start: source.start"),
        (["--threshold", "true"], "--threshold: detect.threshold: expected a valid number"),
        (["--output", tmp_path / "none" / "out.mp4"], "does not exist"),
        (["--output", tmp_path / "out.avi"], "expected a name that ends in .mp4"),
        (["--output", "out"], "expected a name that ends in .mp4"),
        (["--output", "-"], "--output -: cannot go to standard output; name a file"),
        (["--kitti", "-"], "--kitti -: cannot go to standard output; name a folder"),
        (["--summary", "-"], "--summary -: cannot go to standard output; name a file"),
        (["--track-index", "most"], "--track-index: source.track_index"),
        (["--config", tmp_path / "none.yaml"], "cannot read the configuration"),
    ):
        assert part in refused(clip, "-o", video, *arguments)
    for setting, part in (
        ("detect.class_thresholds.bus=0.3", "unknown class 'bus', the network knows car, ped"),
        ("detect.class_thresholds.car=3", "detect.class_thresholds.car: expected less than or"),
        ("detect.treshold=0.3", "unknown key detect.treshold, did you mean detect.threshold?"),
        ("network=none.yaml", "none.yaml: cannot read the configuration"),
        ("nonsense", "expected KEY=VALUE"),
        ("queue.batch=9", "queue.batch: back end cpu takes at most 8 at once, got 9"),
    ):
        assert part in refused(clip, "-o", video, "--set", setting)
    message = refused(clip, "-o", video, "--set", "preview.token=271828")
    assert "preview.token: expected a valid string, got int; put it in double quotes" in message
    assert "271828" not in message
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder_is_refused(refused: Any, clip: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "no permission" in refused(clip, "-o", tmp_path / "out.mp4")


def test_a_profile_that_contradicts_the_configuration(
    refused: Any, clip: Path, small_network: Path, tmp_path: Path
) -> None:
    path = tmp_path / "net.yaml"
    path.write_text(small_network.read_text().replace("[car, pedestrian", "[pedestrian, car"))
    message = refused(clip, "--no-video", "--set", f"network={path}")
    assert "classes: ['pedestrian', 'car', 'cyclist'] contradicts the profile" in message


def test_an_input_size_that_the_network_cannot_take_is_refused(
    refused: Any, clip: Path, small_network: Path, tmp_path: Path
) -> None:
    path = tmp_path / "net.yaml"
    path.write_text(small_network.read_text().replace("width: 320", "width: 330"))
    message = refused(clip, "--no-video", "--set", f"network={path}")
    assert f"{path}: input: expected an input of multiples of 16 pixels" in message
    assert "got 330x96" in message


@pytest.mark.parametrize("backend", ["tensorrt", "torch"])
def test_an_unavailable_back_end_is_refused(refused: Any, clip: Path, backend: str) -> None:
    message = refused(clip, "--no-video", "--backend", backend)
    assert f"backend {backend} cannot run here" in message
    assert "--backend cpu" in message


def test_an_arguments_file_that_is_not_text_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "options").write_bytes(b"--track\n\xff\xfe")
    with pytest.raises(SystemExit) as caught:
        command_line.main([f"@{tmp_path / 'options'}"])
    assert caught.value.code == 2
    assert "error: expected @FILE to be a text in utf-8: " in capsys.readouterr().err


def test_argparse_refuses_unknown_options() -> None:
    with pytest.raises(SystemExit) as caught:
        command_line.main(["demo:", "--thresold", "0.5"])
    assert caught.value.code == 2
