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
def test_a_line_every_five_seconds_where_there_is_no_terminal(
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
