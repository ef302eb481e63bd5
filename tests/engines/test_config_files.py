"""Finding configuration files: first the user's files, then those of the package."""

from pathlib import Path

import pytest

from squeezedrive.engines.config_files import CONFIGS, find_config
from squeezedrive.engines.errors import ConfigError
from squeezedrive.engines.training.config import load_train_config
from squeezedrive.pipeline.config import load_config, load_network_config


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("path", ["live", "live.yaml", "configs/live.yaml", "configs/live"])
def test_finds_a_packaged_file_by_name_from_any_folder(path: str) -> None:
    assert find_config(Path(path)) == CONFIGS / "live.yaml"
    assert load_config(Path(path)) == load_config(CONFIGS / "live.yaml")


def test_prefers_the_users_own_file(tmp_path: Path) -> None:
    Path("configs").mkdir()
    for path in ("live.yaml", "configs/live.yaml"):
        Path(path).write_text("detect: {threshold: 0.25}\n")
        assert find_config(Path(path)) == Path(path)
        assert load_config(Path(path)).detect.threshold == 0.25


def test_ignores_a_folder_with_the_name() -> None:
    Path("live").mkdir()
    assert find_config(Path("live")) == CONFIGS / "live.yaml"


@pytest.mark.parametrize("path", ["other/live.yaml", "/tmp/none/live.yaml", "lvie", "configs", ""])
def test_keeps_a_path_that_names_no_packaged_file(path: str) -> None:
    assert find_config(Path(path)) == Path(path)
    with pytest.raises(ConfigError, match="cannot read the configuration"):
        load_config(Path(path))


def test_finds_networks_the_same_way(tmp_path: Path) -> None:
    for name in ("squeezedet", "configs/squeezedet.yaml"):
        assert load_network_config(Path(name)).input.width == 1248
    mine = tmp_path / "mine.yaml"
    mine.write_text("network: squeezedet\n")
    assert load_config(mine).network == str(CONFIGS / "squeezedet.yaml")


def test_finds_recipes_the_same_way() -> None:
    for name in ("training/paper", "configs/training/paper.yaml"):
        assert load_train_config(Path(name)) == load_train_config(
            CONFIGS / "training" / "paper.yaml"
        )
