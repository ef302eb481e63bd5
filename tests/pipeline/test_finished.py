"""Keys of runs: they differ if two runs of a file may have different results."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from squeezedrive.engines.model.weights import DEFAULT, load_weights, save_weights
from squeezedrive.pipeline.app.finished import (
    FileVersion,
    config_hash,
    file_version,
    run_key,
    weights_hash,
)
from squeezedrive.pipeline.app.network import NetworkDescription, describe_network
from squeezedrive.pipeline.config import Config, load_config
from squeezedrive.pipeline.core.errors import SourceError
from squeezedrive.pipeline.sources.collect import SourceFile, collect


def config_of(**settings: Any) -> Config:
    return load_config(None, [(key, key.replace("__", "."), v) for key, v in settings.items()])


@pytest.mark.parametrize(
    "changed",
    [
        {"detect__threshold": 0.5},
        {"detect__class_thresholds": {"car": 0.5}},
        {"fit__mode": "letterbox"},
        {"track__enabled": True},
        {"source__frames": 7},
        {"source__start": 1.0},
        {"video__crf": 30},
        {"cpu__precision": "fp32"},
        {"backend": "cpu"},
        {"record__segment": 60},
        {"draw__status": False},
        {"queue__policy": "latest"},
    ],
    ids=str,
)
def test_settings_that_change_results_change_the_key(changed: dict[str, Any]) -> None:
    assert config_hash(config_of(**changed)) != config_hash(config_of())


def test_settings_that_only_change_the_speed_keep_the_key() -> None:
    faster = config_of(
        cpu__threads=1, cpu__streams=1, queue__depth=9, queue__slots=9, queue__batch=2,
        source__read_timeout=9.0, video__threads=1, preview__address=8080, profile__warmup=0.0,
    )  # fmt: skip
    assert config_hash(faster) == config_hash(config_of())


def test_every_group_of_settings_is_classified() -> None:
    """Fail for a new group until someone decides which of its settings change results."""
    assert set(Config.model_fields) == {
        "network", "backend", "cpu", "cuda", "fit", "detect", "queue", "source", "video", "record",
        "track", "preview", "draw", "profile",
    }  # fmt: skip


def network_of(folder: Path, width: int = 320) -> NetworkDescription:
    file = folder / f"{width}.yaml"
    weights = folder / "own.npz"
    file.write_text(
        f"architecture: squeezedet\nweights: {weights}\nclasses: [car, pedestrian, cyclist]\n"
        f"input: {{width: {width}, height: 96}}\n"
    )
    return describe_network(config_of(network=str(file)))


def test_networks_are_compared_by_content(tmp_path: Path) -> None:
    original = load_weights(DEFAULT)
    hashes = []

    def note(width: int = 320) -> None:
        hashes.append(weights_hash(network_of(tmp_path, width)))

    save_weights(original, tmp_path / "own.npz")
    note()
    note(352)
    (tmp_path / "own.int8.onnx").write_bytes(b"quantised")
    note()
    (tmp_path / "own.int8.onnx").write_bytes(b"quantised again")
    note()
    (tmp_path / "own.int8.onnx").unlink()
    next(iter(original.arrays.values())).flat[0] += 1
    save_weights(original, tmp_path / "own.npz")
    note()
    assert len(set(hashes)) == 5
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in tmp_path.glob("own.*"):
        shutil.copy(path, moved)
    assert weights_hash(network_of(moved)) == hashes[-1]


def version_of(spec: str | Path, **settings: Any) -> FileVersion:
    (file,) = collect([str(spec)]).files
    return file_version(file, config_of(**settings))


def test_files_are_compared_by_name_size_and_time(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"12345")
    os.utime(path, ns=(0, 10**18 + 1))
    version = version_of(path)
    assert version == FileVersion("a.mp4", 5, str(10**18 + 1), None)
    elsewhere = tmp_path / "mounted" / "a.mp4"
    elsewhere.parent.mkdir()
    shutil.copy2(path, elsewhere)
    os.utime(elsewhere, ns=(0, 10**18 + 1))
    assert version_of(elsewhere) == version
    assert version_of(path, source__track_index=1) == FileVersion("a.mp4", 5, str(10**18 + 1), 1)
    second = SourceFile(str(path), path, path, track=2)
    assert file_version(second, config_of(source__track_index="all")).track == 2
    os.utime(path, ns=(0, 10**18 + 2))
    assert version_of(path) != version
    path.unlink()
    with pytest.raises(SourceError, match=r"a\.mp4"):
        file_version(SourceFile(str(path), path, path), config_of())


def test_changing_one_picture_changes_a_sequence(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("1.jpg", "2.jpg"):
        (folder / name).write_bytes(b"12345")
        os.utime(folder / name, ns=(0, 10**18))
    version = version_of(folder)
    assert (version.name, version.size) == ("pictures", 10)
    assert version_of(folder) == version
    os.utime(folder / "1.jpg", ns=(0, 10**18 + 1))
    assert version_of(folder) != version


def test_a_key_depends_on_source_network_and_settings() -> None:
    version = FileVersion("a.mp4", 5, "1")
    keys = {
        run_key(version, "w", "c"),
        run_key(FileVersion("a.mp4", 5, "1", 0), "w", "c"),
        run_key(FileVersion("a.mp4", 6, "1"), "w", "c"),
        run_key(version, "v", "c"),
        run_key(version, "w", "d"),
    }
    assert len(keys) == 5
    assert run_key(FileVersion("a.mp4", 5, "1"), "w", "c") in keys
