"""Reading the YAML of configurations, settings and data sets."""

from pathlib import Path

import pytest
import yaml

from squeezedrive.engines.errors import ConfigError
from squeezedrive.engines.importing.files import read_shapes
from squeezedrive.engines.settings import file_layer, parse_setting
from squeezedrive.engines.training.config import load_train_config
from squeezedrive.engines.yaml_text import load_yaml
from squeezedrive.pipeline.config import load_config, load_network_config
from squeezedrive.pipeline.profiling.sweep import make_cells


def test_values_that_are_not_names_are_read_as_usual() -> None:
    text = "a: no\nb: [1_10, 12:30, null, 2]\nnames: no\nclasses: null\nlabelled:\n"
    same = yaml.safe_load(text)
    assert load_yaml(text) == {**same, "names": "no"}
    assert load_yaml("") is None
    assert load_yaml("&a [1, *a]")[0] == 1
    assert load_yaml("[no]") == [False]
    assert load_yaml("[no]", "detect.classes") == ["no"]
    assert load_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}")["b"] == {"x": 3, "y": 2}
    merged = load_yaml("a: &a {1: yes}\nnames: {<<: *a, no: on}")
    assert merged["names"] == {"1": "yes", "no": "on"}


def test_reads_class_names_of_a_configuration_as_texts(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("detect:\n  classes: [no, 12:30]\n  class_thresholds: {on: 0.5, 1: 1}\n")
    detect = load_config(path).detect
    assert detect.classes == ["no", "12:30"]
    assert detect.class_thresholds == {"on": 0.5, "1": 1}
    settings = [parse_setting("detect.classes=[yes, 007]"),
                parse_setting("detect.class_thresholds={off: 0.25}")]  # fmt: skip
    detect = load_config(None, settings).detect
    assert (detect.classes, detect.class_thresholds) == (["yes", "007"], {"off": 0.25})
    path.write_text("architecture: squeezedet\nweights: a.npz\nclasses: [y, no]\n"
                    "input: {width: 320, height: 96}\n")  # fmt: skip
    assert load_network_config(path).classes == ["y", "no"]


def test_reads_class_names_of_a_recipe_as_texts(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "network: {output: {classes: [no, 1_10]}}\n"
        "data: {sets: [{root: a, names: {on: no, 30: dontcare}, labelled: [no]}]}\n"
    )
    config = load_train_config(path)
    assert config.network.output.classes == ("no", "1_10")
    assert config.data.sets[0].names == {"on": "no", "30": "dontcare"}
    (tmp_path / "written.yaml").write_text(config.to_yaml())
    assert load_train_config(tmp_path / "written.yaml") == config
    _, _, value = parse_setting("data.sets=[{root: a, names: {12:30: no}}]")
    assert value == [{"root": "a", "names": {"12:30": "no"}}]


def test_reads_class_names_of_a_sweep_as_texts(tmp_path: Path) -> None:
    cells = make_cells(None, [], ["detect.classes=[no],[on, 10]"], tmp_path)
    assert [cell.config.detect.classes for cell in cells] == [["no"], ["on", "10"]]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("detect: {threshold: 0.5}\nsource: {fps: 3}\ndetect: {top_n: 3}\n", "detect"),
        ("detect:\n  threshold: 0.5\n  top_n: 3\n  threshold: 0.6\n", "threshold"),
        ("record: {events: [{no: 1, no: 2}]}\n", "no"),
        ('detect: {class_thresholds: {1: 0.5, "1": 0.6}}\n', "1"),
    ],
)
def test_rejects_a_key_that_occurs_twice(tmp_path: Path, text: str, key: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"mine.yaml: not valid YAML: the key {key} occurs twice"
                       r".*line \d"):  # fmt: skip
        file_layer(path)
    with pytest.raises(ConfigError, match=f"the key {key} occurs twice"):
        read_shapes(str(path))


def test_rejects_a_setting_with_a_key_that_occurs_twice() -> None:
    with pytest.raises(ConfigError, match="the value is not valid YAML"):
        parse_setting("detect.class_thresholds={car: 0.5, car: 0.6}")


@pytest.mark.parametrize(
    "value",
    [
        "2020-13-45", "2020-01-01T25:61:61Z", "!!timestamp x", "!!int x", "!!int ''", "!!float x",
        "!!bool x", "[" * 5000, "{a: " * 5000,
    ],
)  # fmt: skip
def test_what_yaml_stumbles_over_is_no_yaml(value: str) -> None:
    with pytest.raises(yaml.YAMLError):
        load_yaml(f"key: {value}")
