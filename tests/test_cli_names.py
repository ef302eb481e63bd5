"""Files whose names are not valid UTF-8, as on old disks and in old archives."""

import contextlib
import io
import json
import os
from pathlib import Path
from typing import Any

import cv2

from squeezedrive.engines.__main__ import main as engines
from squeezedrive.engines.files import readable
from squeezedrive.engines.model.weights import DEFAULT, load_profile
from squeezedrive.engines.training.config import load_train_config
from squeezedrive.pipeline.core.source import SourceOptions
from squeezedrive.pipeline.sources.images import ImageSource
from tests.support.labelled import kitti_line, write_kitti
from tests.support.media import picture, read_all, write_video

LATIN = os.fsdecode(b"fahrt_\xfc")
SHOWN = "fahrt_\\xfc"


def run_verb(*arguments: str | Path) -> str:
    """Run a verb with strict UTF-8 as standard output; return what it prints."""
    stream = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="strict", write_through=True)
    with contextlib.redirect_stdout(stream):
        assert engines(list(map(str, arguments))) == 0
    stream.seek(0)
    return stream.read()


def test_hostile_names_are_escaped() -> None:
    assert readable(LATIN) == SHOWN
    assert readable(Path("a/ü→🚗.mp4")) == "a/ü→🚗.mp4"
    assert readable(os.fsdecode(b"\xff\xc3(")) == "\\xff\\xc3("


def test_messages_escape_the_name_of_a_video(run: Any, tmp_path: Path) -> None:
    folder = tmp_path / LATIN
    folder.mkdir()
    clip = folder / f"{LATIN}.mp4"
    write_video(clip, 4, size=(320, 192))
    summary, jsonl = folder / "summary.json", folder / "out.jsonl"
    code, out, err = run(clip, "--summary", summary, "--jsonl", jsonl)
    assert code == 0, err
    assert (folder / f"{LATIN}.detected.mp4").stat().st_size
    assert f"{SHOWN}.detected.mp4" in out
    figures = json.loads(summary.read_bytes())
    header = json.loads(jsonl.read_bytes().splitlines()[0])
    for name in (figures["source"], *figures["outputs"], header["source"]["name"]):
        assert SHOWN in name
        name.encode()  # raises for a lone surrogate


def test_names_do_not_control_the_terminal(run: Any, tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 2, size=(320, 192))
    (tmp_path / "b\x1b[31m.mp4").write_text("no video")
    code, out, err = run(tmp_path, "--no-video", "--csv", f"{tmp_path}/out/")
    assert code == 1, err
    assert "\x1b" not in out + err
    assert "b\\x1b[31m.mp4" in out


def test_a_profile_escapes_the_name_of_its_video(run: Any, tmp_path: Path) -> None:
    clip = tmp_path / f"{LATIN}.mp4"
    write_video(clip, 60, size=(320, 192))
    code, _, err = run(clip, "--no-video", "--profile", tmp_path / LATIN, "--set",
                       "profile.warmup=0")  # fmt: skip
    assert code == 0, err
    assert SHOWN in (tmp_path / LATIN / "report.html").read_text(encoding="utf-8")


def test_messages_escape_the_names_of_pictures(tmp_path: Path) -> None:
    folder = tmp_path / LATIN
    folder.mkdir()
    _, content = cv2.imencode(".png", picture(0))
    (folder / f"{LATIN}.png").write_bytes(content.tobytes())
    source = ImageSource(str(folder), SourceOptions())
    assert len(read_all(source)) == 1
    assert source.info.name.endswith(SHOWN)
    assert source.stem(0) == LATIN


def test_verbs_escape_file_names(tmp_path: Path) -> None:
    made = write_kitti(tmp_path / "kitti", {"a": kitti_line("Car", (10, 10, 50, 40))})
    data = made.rename(tmp_path / LATIN)  # OpenCV cannot write a picture there
    results = tmp_path / f"{LATIN} results"
    results.mkdir()
    (results / "a.txt").write_text("")
    figures = tmp_path / f"{LATIN}.json"
    text = run_verb("evaluate", "--data", data, "--detections", results, "--json", figures)
    assert "fahrt_\\udcfc" in text
    assert json.loads(figures.read_bytes())


def test_messages_escape_the_name_of_weights(tmp_path: Path) -> None:
    out = tmp_path / f"{LATIN}.npz"
    assert "wrote" in run_verb("export", out, "--weights", DEFAULT)
    assert load_profile(out.with_suffix(".json")).name == SHOWN
    assert load_train_config(None).profile(LATIN, 0).name == SHOWN
