from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from squeezedrive.pipeline.app import progress


@pytest.mark.parametrize(
    ("expected", "dropped", "line"),
    [
        (200, 0, "frame 60 of 200, 10.0 fps, 14 s left"),
        (None, 3, "frame 60, 10.0 fps, 3 dropped"),
    ],
)
def test_without_a_terminal_a_line_is_printed_every_five_seconds(
    expected: int | None,
    dropped: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    pipeline: Any = SimpleNamespace(processed=0, dropped=Counter(late=dropped))
    with progress.open_progress(expected, enabled=True) as show:
        for now[0] in (4.9, 6.0, 10.9):
            pipeline.processed = int(now[0] * 10)
            show(pipeline)
    assert capsys.readouterr().err == f"{line}\n"
    with progress.open_progress(expected, enabled=False) as show:
        now[0] = 99.0
        show(pipeline)
    assert capsys.readouterr().err == ""


def test_many_files_share_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    pipeline: Any = SimpleNamespace(processed=0)
    with progress.FilesProgress(["a", "b", "c"], [100, 300, 0], enabled=True) as bar:
        with bar.file(0, 50) as show:
            now[0] = 4.0
            show(pipeline)
        now[0] = 8.0
        with bar.file(1, 60) as show:
            for now[0], pipeline.processed in ((9.0, 10), (12.0, 20), (15.0, 30)):
                show(pipeline)
        with bar.file(2, None) as show:
            now[0] = 25.0
            show(pipeline)
    # The first file has a quarter of the bytes; then a sixth and a half of the second are read.
    assert capsys.readouterr().err.splitlines() == [
        "file 2 of 3, 0:00:15 left: frame 10 of 60, 10.0 fps, b",
        "file 2 of 3, 0:00:09 left: frame 30 of 60, 4.3 fps, b",
        "file 3 of 3, 0:00:00 left: frame 30, 3.0 fps, c",
    ]
    with progress.FilesProgress(["a"], [1], enabled=False) as bar, bar.file(0, 50) as show:
        now[0] = 99.0
        show(pipeline)
    assert capsys.readouterr().err == ""
