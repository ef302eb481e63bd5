"""The table of verbs: it is complete, verbs have descriptions, options load no large packages."""

import subprocess
import sys
from pathlib import Path

import pytest

from squeezedrive.engines.__main__ import VERBS, main

ROOT = Path(__file__).parents[2]
SHARED = {"__init__", "arguments", "boxes", "engine_cache"}  # files that are not verbs


def test_table_lists_every_file_of_a_verb() -> None:
    files = {path.stem for path in (ROOT / "engines" / "cli").glob("*.py")}
    assert {file for file, _ in VERBS.values()} == files - SHARED


def test_help_lists_the_verbs_without_loading_them() -> None:
    script = (
        "import sys\n"
        "from squeezedrive.engines.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    for verb, (_, text) in VERBS.items():
        assert f"    {verb}" in done.stdout
        assert text in " ".join(done.stdout.split())
    loaded = {name for name in done.stderr.split() if name.startswith("squeezedrive.engines.")}
    assert loaded == {
        f"squeezedrive.engines.{name}" for name in ("__main__", "errors", "program", "signals")
    }


def test_options_load_no_heavy_packages() -> None:
    script = (
        "import sys\n"
        "from squeezedrive.engines.__main__ import VERBS, main\n"
        "for verb in VERBS:\n"
        "    try: main([verb, '--help'])\n"
        "    except SystemExit: pass\n"
        "print(*sorted({m.split('.')[0] for m in sys.modules}), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.count("examples:") == len(VERBS)
    loaded = set(done.stderr.split())
    assert "squeezedrive" in loaded
    heavy = {"numpy", "cv2", "yaml", "pydantic", "matplotlib", "openvino", "numba", "torch", "rich"}
    assert not loaded & heavy


def test_rejects_an_unknown_verb(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["evaluete", "--data", "kitti"])
    assert "invalid choice: 'evaluete'" in capsys.readouterr().err
