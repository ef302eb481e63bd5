"""The examples of the documentation, run without changes."""

import re
import shlex
import shutil
from pathlib import Path

import cv2
import pytest

from squeezedrive import detect
from squeezedrive.engines.__main__ import main

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
DOCS = sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))
PAGES = ["README.md", "CONTRIBUTING.md", *DOCS]
LINK = re.compile(r"\]\(([^)\s]+)\)")
VERB = re.compile(r"^    (?:python|torchrun [^#\n]*) -m engines (.+)$", re.MULTILINE)
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


def test_the_pages_have_examples() -> None:
    assert len(examples("docs/python.md")) >= 6
    assert examples("README.md")


@pytest.mark.parametrize("page", PAGES)
def test_links_have_a_target(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for link in LINK.findall(text):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        path = (ROOT / page).parent / file if file else ROOT / page
        assert path.exists(), link
        if anchor:
            titles = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", t).lower().replace(" ", "-") for t in titles}


def verbs(page: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    return VERB.findall(text)


@pytest.mark.parametrize("page", PAGES)
def test_the_options_of_commands_exist(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("squeezedrive.engines.__main__.exit_code", lambda run: 0)  # only parsed
    for command in verbs(page):
        assert main(shlex.split(command, comments=True)) == 0, command


def test_the_pages_have_commands() -> None:
    assert len(verbs("docs/training.md")) >= 18
    assert verbs("README.md")
    with pytest.raises(SystemExit):
        main(["train", "--patience", "3", "--out", "x"])
