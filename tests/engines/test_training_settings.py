"""Training configurations from files and --set: paths stay valid, and errors name the source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from squeezedrive.engines.errors import ConfigError
from squeezedrive.engines.settings import parse_setting
from squeezedrive.engines.training.config import TRAIN_DEFAULTS, load_train_config


def test_relative_paths_in_settings_are_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    texts = ("data.sets=[{root: a}]", "evaluate.roots=[b]", "network.init=c.npz")
    config = load_train_config(None, [parse_setting(text)[1:] for text in texts])
    stored = tmp_path / "run/config.yaml"
    stored.parent.mkdir()
    stored.write_text(config.to_yaml())
    monkeypatch.chdir(stored.parent)
    again = load_train_config(stored)
    assert again == config
    assert again.data.sets[0].root == str(tmp_path / "a")
    assert again.evaluate.roots == (str(tmp_path / "b"),)
    assert again.network.init == str(tmp_path / "c.npz")


@pytest.mark.parametrize(
    ("file", "settings", "message"),
    [
        ("seed: 2", ["batch=0"], "--set batch: batch: "),
        ("seed: 2", ["seed=3", "augment.zoom=[2, 1]"], "--set augment.zoom: augment: zoom: "),
        ("seed: 2", ["data.sets=[{root: a, b: 1}]"], "--set data.sets: unknown key data.sets.0.b"),
        ("seed: 2", ["data.sets=3"], "--set data.sets: data.sets: expected a list, got 3"),
        (
            "seed: 2", ["network.output.classes=lorry"],
            "--set network.output.classes: network.output.classes: expected a list, got",
        ),
        ("seed: 2", ["network.input.width=1242"], "--set network.input.width: expected an input"),
        ("batch: 0", ["seed=3"], "{file}: batch: "),
        ("batch: 0", [], "{file}: batch: "),
        ("data: {sets: 3}", [], "{file}: data.sets: expected a list, got 3"),
        (None, ["batch=0"], "--set batch: batch: "),
    ],
)  # fmt: skip
def test_error_names_the_file_or_setting_that_is_wrong(
    tmp_path: Path, file: str | None, settings: list[str], message: str
) -> None:
    path: Any = None
    if file is not None:
        path = tmp_path / "mine.yaml"
        path.write_text(file)
    with pytest.raises(ConfigError) as caught:
        load_train_config(path, [parse_setting(text)[1:] for text in settings])
    assert str(caught.value).startswith(message.format(file=path or TRAIN_DEFAULTS))
