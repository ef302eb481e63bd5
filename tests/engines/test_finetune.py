"""Run the worked example of docs/training.md with fewer pictures and epochs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training needs PyTorch: pip install -e '.[train]'")

from squeezedrive.engines.model.weights import DEFAULT, load_weights
from squeezedrive.engines.training.config import load_train_config

ROOT = Path(__file__).parents[2]
SECTION = re.compile(r"^## Fine-tuning in three commands$(.*?)^## ", re.DOTALL | re.MULTILINE)
SMALLER = {
    "--every 90": "--every 450",  # two pictures of a street
    "--config training/finetune": (
        "--config training/finetune --set epochs=2 --set evaluate.every=2 --set threads=1"
        " --set precision=fp32 --set data.workers=0 --set evaluate.pictures=0"
        ' --set "augment.window=[304,192]"'
    ),
}


def commands() -> list[str]:
    """Return the commands of the section, in order."""
    (section,) = SECTION.findall((ROOT / "docs/training.md").read_text(encoding="utf-8"))
    return [line.strip() for line in section.splitlines() if line.startswith("    ")]


@pytest.mark.timeout(600)
def test_the_three_commands_work_one_after_the_other(tmp_path: Path) -> None:
    outputs = []
    for command in commands():
        for long, short in SMALLER.items():
            command = command.replace(long, short)
        done = subprocess.run(
            ["bash", "-c", command.replace("python -m", f"'{sys.executable}' -m")],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, timeout=500, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (command, done.stderr)
        outputs.append(done.stdout + done.stderr)
    before, checked, trained, after = outputs[-4:]
    assert "4 pictures, 0 without an object" in checked
    assert "usable: a training would not stop" in checked
    assert "nearly the same" not in checked
    assert "random layers: none" in trained  # the head is kept and gets the new names
    lines = (tmp_path / "runs/mine/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]
    weights = load_weights(tmp_path / "runs/mine/mine.npz")
    assert weights.profile.output.classes == ("vehicle", "person", "rider")
    old = load_weights(DEFAULT).arrays
    changed = {name for name, array in weights.arrays.items() if (array != old[name]).any()}
    assert "conv12_w" in changed
    assert "conv1_w" not in changed  # frozen
    # A few small steps change little: the objects are still found, under other names.
    figures = [
        float(re.findall(r"^mean +([\d.]+)", text, re.MULTILINE)[0])  # AP50
        for text in (before, after)
    ]
    assert figures[0] > 20
    assert figures[1] > figures[0] - 15
    assert weights.profile.fit == "letterbox"


def test_recipe_starts_from_the_weights_of_the_program() -> None:
    config = load_train_config(Path("training/finetune"))
    assert config.network.init is not None
    assert Path(config.network.init).resolve() == DEFAULT.resolve()
    assert config.network.init_head == "keep"
    assert config.evaluate.patience
