from pathlib import Path
from typing import Any

import pytest
import yaml

from squeezedrive.engines.config_files import CONFIGS
from squeezedrive.engines.errors import ConfigError
from squeezedrive.engines.settings import parse_setting
from squeezedrive.pipeline.config import DEFAULTS, load_config, load_network_config


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_the_base_file_loads_and_names_an_existing_network() -> None:
    config = load_config()
    assert config.detect.threshold == 0.4
    assert config.detect.top_n == 256
    network = load_network_config(Path(config.network))
    assert (network.input.width, network.input.height) == (1248, 384)
    assert Path(network.weights).is_file()


def test_every_key_of_the_base_file_has_a_comment() -> None:
    for line in DEFAULTS.read_text().splitlines():
        if ":" in line and not line.startswith("#") and not line.rstrip().endswith(":"):
            assert "#" in line, line


@pytest.mark.parametrize("name", ["live.yaml", "profile.yaml"])
def test_each_shipped_file_changes_some_setting(name: str) -> None:
    assert load_config(CONFIGS / name) != load_config()


def test_layers_override_each_other_key_by_key(tmp_path: Path) -> None:
    path = write(tmp_path / "my.yaml", "detect: {threshold: 0.3, top_n: 10}\n")
    config = load_config(path, [("--threshold", "detect.threshold", 0.2)])
    assert config.detect.threshold == 0.2
    assert config.detect.top_n == 10
    assert config.detect.nms_iou == 0.4


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert load_config(write(tmp_path / "empty.yaml", "# nothing\n")) == load_config()


def test_the_network_is_found_beside_the_file_that_names_it(tmp_path: Path) -> None:
    network = yaml.safe_load((CONFIGS / "squeezedet.yaml").read_text())
    network["weights"] = "mine.npz"
    write(tmp_path / "net.yaml", yaml.safe_dump(network))
    config = load_config(write(tmp_path / "my.yaml", "network: net.yaml\n"))
    assert Path(config.network) == tmp_path / "net.yaml"
    assert load_network_config(Path(config.network)).weights == str(tmp_path / "mine.npz")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("detect: {treshold: 0.3}", ["unknown key detect.treshold", "mean detect.threshold?"]),
        ("threshold: 0.3", ["unknown key threshold", "mean detect.threshold?"]),
        ("zzzzzz: 1", ["unknown key zzzzzz", "valid are"]),
        ("detect: {threshold: 1.5}", ["detect.threshold", "less than or equal to 1", "got 1.5"]),
        ("detect: {threshold: high}", ["detect.threshold", "number", "got 'high'"]),
        ("detect: {top_n: 0}", ["detect.top_n", "greater than or equal to 1", "got 0"]),
        ("detect: {top_n: 9999999999}", ["detect.top_n", "less than or equal to 2147483647"]),
        ("queue: {slots: 100000000}", ["queue.slots", "less than or equal to 64"]),
        ("queue: {depth: 100000000}", ["queue.depth", "less than or equal to 1000"]),
        ("cpu: {threads: 1000000000}", ["cpu.threads", "less than or equal to 1024"]),
        ("detect: 5", ["detect: expected keys", "threshold", "got 5"]),
        ("backend: gpu", ["backend", "'auto', 'tensorrt', 'torch' or 'cpu'", "got 'gpu'"]),
        ("fit: {mode: crop}", ["fit.mode", "'band', 'letterbox' or 'stretch'", "got 'crop'"]),
        ("queue: {policy: newest}", ["queue.policy", "'latest'", "got 'newest'"]),
        ("source: {frames: 0}", ["source.frames", "got 0"]),
        ("source: {fps: .inf}", ["source.fps", "got inf"]),
        ("video: {crf: 99}", ["video.crf", "51", "got 99"]),
        ("- a\n- b", ["expected keys with values, got list"]),
        ("a: [", ["not valid YAML"]),
    ],
)
def test_a_mistake_names_file_key_expected_and_actual(
    tmp_path: Path, text: str, parts: list[str]
) -> None:
    path = write(tmp_path / "my.yaml", text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_a_mistake_on_the_command_line_names_the_option(tmp_path: Path) -> None:
    path = write(tmp_path / "my.yaml", "detect: {threshold: 0.3}")
    with pytest.raises(ConfigError, match=r"^--threshold: detect\.threshold: .* got 2$"):
        load_config(path, [("--threshold", "detect.threshold", 2)])
    with pytest.raises(ConfigError, match=r"^--set detekt\.top_n=1: unknown key detekt\.top_n"):
        load_config(path, [parse_setting("detekt.top_n=1")])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a.b=1", 1),
        ("a.b=0.5", 0.5),
        ("a.b=[x, y]", ["x", "y"]),
        ("a.b=null", None),
        ("a.b=", None),
    ],
)
def test_settings_are_read_as_yaml(text: str, value: Any) -> None:
    assert parse_setting(text) == (f"--set {text}", "a.b", value)


@pytest.mark.parametrize("text", ["novalue", "=3", "a=["])
def test_malformed_settings_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        parse_setting(text)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (
            {"input": {"width": 0, "height": 384}},
            "input.width: expected greater than or equal to 1",
        ),
        ({"anchors": 9}, "unknown key anchors"),
        ({"classes": None}, "classes"),
    ],
)
def test_a_mistake_in_a_network_file_names_it(
    tmp_path: Path, change: dict[str, Any], part: str
) -> None:
    values = yaml.safe_load((CONFIGS / "squeezedet.yaml").read_text())
    path = write(tmp_path / "net.yaml", yaml.safe_dump({**values, **change}))
    with pytest.raises(ConfigError) as caught:
        load_network_config(path)
    assert part in str(caught.value)
    assert str(path) in str(caught.value)


def test_missing_files_and_keys_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the configuration"):
        load_config(tmp_path / "none.yaml")
    path = write(tmp_path / "net.yaml", "architecture: squeezedet\n")
    with pytest.raises(ConfigError, match="weights is missing"):
        load_network_config(path)
