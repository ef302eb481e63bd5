"""Names of classes as users spell them."""

from pathlib import Path
from typing import Any

import pytest

from squeezedrive.engines.errors import ConfigError
from squeezedrive.pipeline.app.network import describe_network
from squeezedrive.pipeline.config import load_config


def describe(small_network: Path, **keys: Any) -> Any:
    settings = [("test", f"detect.{key}", value) for key, value in keys.items()]
    fixed = [("test", "network", str(small_network)), ("test", "track.enabled", False)]
    return describe_network(load_config(None, [*fixed, *settings]))


@pytest.mark.parametrize("spelling", ["car", "Car", "CAR", " car "])
def test_class_names_ignore_case(small_network: Path, spelling: str) -> None:
    found = describe(small_network, classes=[spelling], class_thresholds={spelling: 0.75})
    assert found.detect.classes == (0,)
    assert found.detect.class_thresholds == ((0, 0.75),)


def test_class_names_in_live_controls_ignore_case(small_network: Path) -> None:
    config = load_config(
        None,
        [
            ("test", "network", str(small_network)),
            ("test", "track.enabled", True),
            ("test", "detect.classes", ["Cyclist", "Car"]),
            ("test", "detect.class_thresholds", {"Cyclist": 0.75}),
        ],
    )
    controls = describe_network(config).controls
    assert controls is not None
    assert controls.classes == ["car", "cyclist"]
    assert controls.thresholds.tolist() == [
        0.75 if name == "cyclist" else config.detect.threshold for name in controls.class_names
    ]


@pytest.mark.parametrize("keys", [{"classes": ["cars"]}, {"class_thresholds": {"Bus": 0.5}}])
def test_an_unknown_class_is_an_error(small_network: Path, keys: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"detect.*: unknown class '(cars|Bus)', the network"):
        describe(small_network, **keys)
