"""Missing, damaged and unusual sources, and real clips."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from squeezedrive.kernels.boxes import iou
from squeezedrive.pipeline.app import command_line
from tests.support.media import damage, times, write_video
from tests.support.program import lines_of

# Encodes each frame on its own, so that damage in one frame does not spread to others.
ALONE = {"g": "1"}


def warnings_of(err: str) -> list[str]:
    return [line for line in err.splitlines() if line.startswith("warning: ")]


def test_a_missing_file_is_an_error(refused: Any, tmp_path: Path) -> None:
    message = refused(tmp_path / "none.mp4", "--no-video")
    assert "none.mp4" in message
    assert "no such file" in message.lower()


def test_an_empty_folder_is_an_error(refused: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    assert "image" in refused(tmp_path, "--no-video")
    assert "match" in refused(tmp_path / "*.png", "--no-video")


def test_a_text_file_called_mp4_is_an_error(refused: Any, tmp_path: Path) -> None:
    path = tmp_path / "notes.mp4"
    path.write_text("dear diary")
    assert f"{path}: expected a video" in refused(path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.mp4"]


def test_a_video_without_frames_is_an_error(refused: Any, tmp_path: Path) -> None:
    path = tmp_path / "empty.y4m"
    write_video(path, 0, codec="rawvideo")
    assert "has no frames that can be shown" in refused(path)
    assert [p.name for p in tmp_path.iterdir()] == ["empty.y4m"]


def test_a_truncated_video_is_processed_as_far_as_it_goes(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "cut.mp4"
    write_video(path, 100, options=ALONE, muxer={"movflags": "faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    code, out, err = run(path)
    assert code == 0
    (warning,) = warnings_of(err)
    assert "ends early" in warning
    count = len(times(tmp_path / "cut.detected.mp4"))
    assert 40 < count < 70
    assert f"{count} processed" in out


def test_a_corrupt_frame_is_left_out_and_counted(run: Any, tmp_path: Path) -> None:
    path, jsonl = tmp_path / "hurt.mp4", tmp_path / "hurt.jsonl"
    write_video(path, 30, options=ALONE)
    damage(path, 12)
    code, out, err = run(path, "--jsonl", jsonl)
    assert code == 0, err
    assert "1 corrupt" in out
    expected = [i for i in range(30) if i != 12]
    assert [line["frame"] for line in lines_of(jsonl)[1:]] == expected
    assert times(tmp_path / "hurt.detected.mp4") == [Fraction(i, 25) for i in expected]


def test_the_frame_size_may_change(run: Any, tmp_path: Path) -> None:
    first, second = tmp_path / "a.h264", tmp_path / "b.h264"
    write_video(first, 10, size=(320, 192))
    write_video(second, 10, size=(480, 272))
    both, jsonl = tmp_path / "both.h264", tmp_path / "both.jsonl"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    code, _, err = run(both, "--jsonl", jsonl)
    assert code == 0, err
    sizes = [(line["width"], line["height"]) for line in lines_of(jsonl)[1:]]
    assert sizes == [(320, 192)] * 10 + [(480, 272)] * 10
    assert any("320x192" in line and "480x272" in line for line in warnings_of(err))
    with av.open(str(tmp_path / "both.detected.mp4")) as output:
        assert [(f.width, f.height) for f in output.decode(video=0)] == [(320, 192)] * 20


def test_a_file_without_timestamps_gets_them_from_its_rate(run: Any, tmp_path: Path) -> None:
    path, video = tmp_path / "raw.h264", tmp_path / "out.mp4"
    write_video(path, 10)
    code, _, err = run(path, "--fps", "12.5", "-o", video)
    assert code == 0, err
    assert times(video) == [Fraction(i * 2, 25) for i in range(10)]
    assert any("timestamps" in line for line in warnings_of(err))


def test_a_folder_of_images_gives_kitti_files_of_their_names(run: Any, tmp_path: Path) -> None:
    folder = tmp_path / "drive"
    folder.mkdir()
    for name in ("2", "10", "1"):
        cv2.imwrite(str(folder / f"{name}.png"), np.full((96, 320, 3), 90, np.uint8))
    (folder / "3.png").write_text("broken")
    code, out, err = run(folder, "--fps", "10", "--kitti", tmp_path / "results")
    assert code == 0, err
    names = sorted(path.name for path in (tmp_path / "results").iterdir())
    assert names == ["1.txt", "10.txt", "2.txt"]
    assert "1 corrupt" in out
    assert any("3.png" in line for line in warnings_of(err))
    assert times(tmp_path / "drive.detected.mp4") == [Fraction(i, 10) for i in (0, 1, 3)]


def test_images_of_one_name_keep_a_result_each(run: Any, tmp_path: Path) -> None:
    folder = tmp_path / "set.v2"
    folder.mkdir()
    for name in ("1.png", "1.jpg", "2.png"):
        cv2.imwrite(str(folder / name), np.full((96, 320, 3), 90, np.uint8))
    assert run(folder, "--kitti", tmp_path / "results")[0] == 0
    names = sorted(path.name for path in (tmp_path / "results").iterdir())
    assert names == ["000000.txt", "000001.txt", "000002.txt"]
    assert (tmp_path / "set.v2.detected.mp4").exists()


def test_outputs_of_a_pattern_go_beside_its_folder(run: Any, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / "im" / folder).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "im" / folder / "1.png"), np.full((96, 320, 3), 90, np.uint8))
    assert run(tmp_path / "im" / "*" / "1.png")[0] == 0
    assert len(times(tmp_path / "im.detected.mp4")) == 2


def test_rotation_is_applied_once(run: Any, tmp_path: Path) -> None:
    path, jsonl = tmp_path / "phone.mp4", tmp_path / "phone.jsonl"
    write_video(path, 5, size=(320, 192), rotation=90)
    assert run(path, "--jsonl", jsonl)[0] == 0
    assert {(line["width"], line["height"]) for line in lines_of(jsonl)[1:]} == {(192, 320)}
    with av.open(str(tmp_path / "phone.detected.mp4")) as output:
        frame = next(output.decode(video=0))
        assert (frame.width, frame.height, frame.rotation) == (192, 320, 0)


def test_audio_and_uneven_timestamps_are_kept(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "phone.mp4"
    stamps = [0, 33, 67, 150, 151, 400, 1000]
    write_video(path, stamps, Fraction(1, 1000), audio="aac")
    assert run(path)[0] == 0
    output = tmp_path / "phone.detected.mp4"
    assert times(output) == [Fraction(t, 1000) for t in stamps]
    with av.open(str(output)) as container:
        assert [s.codec_context.name for s in container.streams.audio] == ["aac"]


CLIPS = [
    "zx_kitti_20110926.avi", "udacity_test_video.mp4", "udacity_solidWhiteRight.mp4",
    "tmo_seattlestreet1.mp4", "tmo_rainy.mp4", "tmo_night.mp4", "dv_traffic.mp4",
    "dp_pedestrians_compilation.mp4", "kb_dashcam2.mp4", "ke_night.mp4",
]  # fmt: skip


@pytest.mark.parametrize("name", CLIPS)
def test_real_clips_keep_their_timestamps(
    run: Any, shared: Path, tmp_path: Path, name: str
) -> None:
    source, output = shared / "data" / "videos" / name, tmp_path / "out.mp4"
    count = 40
    assert run(source, "-o", output, "--frames", str(count))[0] == 0
    assert times(output) == times(source, count)


def test_every_class_is_found_in_a_real_city(
    shared: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    jsonl = tmp_path / "out.jsonl"
    clip = shared / "data" / "videos" / "zx_kitti_20110926.avi"
    arguments = ["--no-video", "--start", "12", "--frames", "30", "--jsonl", str(jsonl)]
    assert command_line.main([str(clip), *arguments]) == 0, capfd.readouterr().err
    found = [d for line in lines_of(jsonl)[1:] for d in line["detections"]]
    assert {d["class"] for d in found} == {"car", "pedestrian", "cyclist"}
    cars = [d for d in found if d["class"] == "car"]
    assert len(cars) > 80


def test_detections_match_kitti_labels(shared: Path, tmp_path: Path) -> None:
    """Most of the large, visible cars in validation images are found where their labels are."""
    kitti = shared / "data" / "kitti"
    names = (kitti / "ImageSets" / "val.txt").read_text().split()[::5]
    folder = tmp_path / "images"
    folder.mkdir()
    for name in names:
        (image,) = (kitti / "training" / "image_2").glob(f"{name}.*")
        (folder / image.name).symlink_to(image)
    jsonl = tmp_path / "out.jsonl"
    assert command_line.main([str(folder), "--no-video", "--jsonl", str(jsonl)]) == 0
    met = total = 0
    for name, line in zip(sorted(names), lines_of(jsonl)[1:], strict=True):
        for row in (kitti / "training" / "label_2" / f"{name}.txt").read_text().splitlines():
            fields = row.split()
            box = [float(v) for v in fields[4:8]]
            if fields[0] != "Car" or fields[2] != "0" or float(fields[1]) > 0.1:
                continue
            if box[3] - box[1] < 40:
                continue
            total += 1
            found = np.array([d["box"] for d in line["detections"]], np.float64).reshape(-1, 4)
            met += bool((iou(np.array([box]), found) > 0.6).any())
    assert total >= 10
    assert met / total > 0.7


def test_the_header_describes_the_run(run: Any, tmp_path: Path) -> None:
    path, jsonl = tmp_path / "a.mkv", tmp_path / "a.jsonl"
    write_video(path, 3)
    run(path, "--jsonl", jsonl, "--no-video", "--fit", "stretch", "--set", "detect.nms_iou=0.3")
    header = json.loads(jsonl.read_text().splitlines()[0])
    assert header["source"]["name"] == str(path)
    assert header["config"]["fit"]["mode"] == "stretch"
