"""The examples of the documentation, run as they stand."""

import re
import shutil
from pathlib import Path

import cv2
import pytest

from squeezedrive import detect

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NOT_RUN = "# not run as a test:"


def examples(name: str) -> list[str]:
    return EXAMPLE.findall((ROOT / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("example", examples("docs/python.md") + examples("README.md"))
def test_an_example_runs(
    example: str, drive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile(example, "example", "exec")
    if example.startswith(NOT_RUN):
        return
    shutil.copy(drive, tmp_path / "drive.mp4")
    cv2.imwrite(str(tmp_path / "street.jpg"), next(detect(drive)).image)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "example", "exec"), {"__name__": "__main__"})


def test_there_are_examples() -> None:
    assert len(examples("docs/python.md")) >= 6
    assert examples("README.md")
