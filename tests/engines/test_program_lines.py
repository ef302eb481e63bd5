"""Text from other people's files is printed on one line and cannot control the terminal."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from squeezedrive.engines.__main__ import main
from squeezedrive.engines.errors import UserError
from squeezedrive.engines.program import exit_code, printable, printable_lines
from squeezedrive.pipeline.app import command_line
from tests.support.labelled import kitti_line, write_kitti, write_picture

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Jcar", r"\x1b[2Jcar"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\x9b31m\x7f", r"\x9b31m\x7f"),
        ("gpj.\u202eexe\u2066\u2028", r"gpj.\u202eexe\u2066\u2028"),
        ("Fußgänger 歩行者 👩‍🦽", "Fußgänger 歩行者 👩‍🦽"),
    ],
)
def test_nothing_controls_the_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable_lines(f"a\n{text}").split("\n")[0] == "a"


def test_an_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> int:
        raise UserError("in/a\nb\x1b[31m: no such file")

    assert exit_code(fail) == 2
    assert capsys.readouterr().err == "error: in/a\\nb\\x1b[31m: no such file\n"


def test_names_of_classes_are_printed_as_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = kitti_line("Car", (1, 1, 50, 50)) + kitti_line("\x1b]0;mine\x07", (1, 1, 50, 50))
    root = write_kitti(tmp_path / "set", {"a": text}, "train")
    assert main(["check-data", str(root), "--set", "evaluate.every=0"]) == 0
    printed = capsys.readouterr().out
    assert r"\x1b]0;mine\x07" in printed
    assert "\x1b" not in printed


def test_log_lines_are_one_line_each(run: Any, tmp_path: Path) -> None:
    name = tmp_path / "a\nerror: b.jpg"
    name.write_bytes(b"no picture")
    code, _, err = run(tmp_path, "--no-video")
    assert code == 2
    assert r"a\nerror: b.jpg: cannot be read as an image" in err
    assert not [line for line in err.splitlines() if line.startswith("error: b")]


def test_a_name_that_is_too_long(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-data", "x" * 5000, "--set", "evaluate.every=0"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.endswith("xxx: File name too long\n")
    assert len(err) < 1300


@pytest.mark.parametrize(
    ("program", "begin"),
    [(main, ["describe"]), (command_line.main, ["a.mp4"]), (command_line.main, ["convert"])],
)
def test_an_argument_that_is_too_long_or_no_text(
    program: Callable[[list[str]], int], begin: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A shell replaces * by file names, which other people may have chosen."""
    with pytest.raises(SystemExit) as ended:
        program([*begin, f"--what=\x1b[2J{'x' * 5000}"])
    assert ended.value.code == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert "error: " in line
    assert len(line) < 1300
    assert "\x1b" not in line


def test_the_name_of_an_output_controls_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_kitti(tmp_path / "set", {"a": kitti_line("Car", (1, 1, 50, 50))}, "train")
    main(["check-data", str(root), "--json", str(tmp_path / "a\x1b[2J.json")])
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "a\\x1b[2J.json" in printed


def test_opencv_says_nothing_about_damage(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.bmp")  # a PNG that is cut off is not given to OpenCV
    content = (tmp_path / "a.bmp").read_bytes()
    (tmp_path / "a.bmp").write_bytes(content[:100])
    read = (
        "import sys, pathlib, squeezedrive.engines.datasets.images as images;"
        "images.read_image(pathlib.Path(sys.argv[1]))"
    )
    environment = {k: v for k, v in os.environ.items() if k != "OPENCV_LOG_LEVEL"}
    program = "from squeezedrive.engines.program import exit_code"
    for text, speaks in ((read, True), (f"{program}; exit_code(lambda: exec({read!r}))", False)):
        done = subprocess.run(
            [sys.executable, "-c", text, tmp_path / "a.bmp"],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
        assert "a.bmp: cannot be decoded" in done.stderr
        assert ("OpenCV" in done.stderr) == speaks
