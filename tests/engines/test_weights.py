import io
import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from squeezedrive.engines.errors import WeightsError
from squeezedrive.engines.model import weights
from squeezedrive.engines.model.weights import DEFAULT, load_arrays, load_weights, save_weights

INPUT = json.loads(DEFAULT.with_suffix(".json").read_text())["input"]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy of the project's weights and profile that a test may change."""
    for path in (DEFAULT, DEFAULT.with_suffix(".json")):
        shutil.copy(path, tmp_path / path.name)
    return tmp_path / DEFAULT.name


def edit_profile(weights: Path, **changes: Any) -> None:
    path = weights.with_suffix(".json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez(path, **arrays)


def test_loads_the_projects_weights() -> None:
    weights = load_weights(DEFAULT)
    assert sum(array.size for array in weights.arrays.values()) == 2_082_120
    assert weights.profile.output.classes == ("car", "pedestrian", "cyclist")
    assert weights.profile.head_channels == 72


def test_profile_may_hold_the_fit_of_the_training(copy: Path) -> None:
    profile = json.loads(copy.with_suffix(".json").read_text())
    for key in ("fit", "band_centre"):
        del profile[key]
    copy.with_suffix(".json").write_text(json.dumps(profile))
    weights = load_weights(copy)
    assert (weights.profile.fit, weights.profile.band_centre) == (None, None)
    # Older quantised models hold the profile without these keys, so None is not written.
    assert not {"fit", "band_centre"} & json.loads(weights.profile.model_dump_json()).keys()
    assert json.loads(weights.profile.model_dump_json())["output"].keys() >= {"classes"}
    edit_profile(copy, fit="letterbox", band_centre=0.6)
    kept = load_weights(copy)
    save_weights(kept, copy)
    assert load_weights(copy).profile == kept.profile
    assert (kept.profile.fit, kept.profile.band_centre) == ("letterbox", 0.6)
    edit_profile(copy, fit="crop")
    with pytest.raises(WeightsError, match="fit: expected 'band', 'letterbox' or 'stretch'"):
        load_weights(copy)


def test_digest_depends_on_the_arrays_but_not_on_their_order(copy: Path) -> None:
    weights = load_weights(copy)
    arrays = dict(reversed(weights.arrays.items()))
    assert replace(weights, arrays=arrays).digest() == weights.digest()
    arrays["conv1_b"] = arrays["conv1_b"] + np.float32(1e-3)
    assert replace(weights, arrays=arrays).digest() != weights.digest()


def test_rejects_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such weights file"):
        load_weights(tmp_path / "nothing.npz")


def test_rejects_weights_without_profile(copy: Path) -> None:
    copy.with_suffix(".json").unlink()
    with pytest.raises(WeightsError, match="no such profile"):
        load_weights(copy)


def test_rejects_a_wrong_parameter_count(copy: Path) -> None:
    arrays = dict(load_weights(copy).arrays)
    arrays["conv1_b"] = arrays["conv1_b"][:-1]
    save(copy, arrays)
    with pytest.raises(WeightsError, match="expected 2,082,120 parameters, got 2,082,119"):
        load_weights(copy)


def test_rejects_an_array_of_wrong_shape(copy: Path) -> None:
    arrays = dict(load_weights(copy).arrays)
    arrays["conv1_w"] = arrays["conv1_w"].transpose(1, 0, 2, 3)
    save(copy, arrays)
    with pytest.raises(WeightsError, match=r"conv1_w: expected shape \(64, 3, 3, 3\)"):
        load_weights(copy)


def test_rejects_a_renamed_array(copy: Path) -> None:
    arrays = dict(load_weights(copy).arrays)
    arrays["conv13_b"] = arrays.pop("conv12_b")
    save(copy, arrays)
    with pytest.raises(WeightsError, match=r"conv1[23]_b"):
        load_weights(copy)


def test_rejects_nan(copy: Path) -> None:
    arrays = dict(load_weights(copy).arrays)
    arrays["fire2_squeeze1x1_b"] = np.full(16, np.nan, np.float32)
    save(copy, arrays)
    with pytest.raises(WeightsError, match="fire2_squeeze1x1_b holds values that are not finite"):
        load_weights(copy)


def test_rejects_a_file_that_is_not_an_archive(copy: Path) -> None:
    copy.write_text("not weights")
    with pytest.raises(WeightsError, match=r"expected a NumPy \.npz archive"):
        load_weights(copy)


def test_rejects_a_truncated_archive(copy: Path) -> None:
    copy.write_bytes(copy.read_bytes()[:100_000])
    with pytest.raises(WeightsError, match=r"expected a NumPy \.npz archive"):
        load_weights(copy)


def packed(method: int, content: bytes = b"no array") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("conv1_w.npy", content)
    return file.getvalue()


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("place", [0, 6, 8, 14, 26, 43, 50, 60, -30])
def test_whatever_is_wrong_with_an_archive_is_one_kind_of_error(
    copy: Path, method: int, place: int
) -> None:
    data = bytearray(packed(method, bytes(range(256)) * 8))
    data[place : place + 2] = b"\xff\x7f"
    copy.write_bytes(data)
    with pytest.raises(WeightsError, match=f"{copy.name}: "):
        load_arrays(copy)


def test_an_archive_that_unpacks_to_more_than_any_network_is_refused(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "MAX_BYTES", 5000)
    copy.write_bytes(packed(zipfile.ZIP_DEFLATED, bytes(5001)))
    with pytest.raises(WeightsError, match="unpacks to 5,001 bytes, expected at most 5,000"):
        load_arrays(copy)


@pytest.mark.parametrize(
    "array", [np.array("car"), np.array(1 + 2j), np.zeros(2, "M8[s]"), np.zeros(3, "i4,f8")]
)
def test_arrays_of_something_else_than_numbers_are_refused(copy: Path, array: np.ndarray) -> None:
    np.savez(copy, conv1_w=array)
    with pytest.raises(WeightsError, match="conv1_w: expected real numbers, got "):
        load_arrays(copy)


@pytest.mark.filterwarnings("error")
def test_numbers_beyond_single_precision_are_refused_in_silence(copy: Path) -> None:
    arrays = dict(load_weights(copy).arrays)
    save(copy, arrays | {"conv1_b": np.full(arrays["conv1_b"].shape, 1e300)})
    with pytest.raises(WeightsError, match="conv1_b holds values that are not finite"):
        load_weights(copy)


@pytest.mark.parametrize("path", [Path(), Path("/")])
def test_a_path_that_names_no_file(path: Path) -> None:
    with pytest.raises(WeightsError, match="no such weights file"):
        load_weights(path)


@pytest.mark.parametrize("value", ["NaN", "Infinity"])
def test_a_profile_holds_finite_numbers(copy: Path, value: str) -> None:
    profile = copy.with_suffix(".json")
    profile.write_text(profile.read_text().replace("103.939", value))
    with pytest.raises(WeightsError, match=r"input\.mean\.0: expected a finite number"):
        load_weights(copy)


def test_a_message_does_not_repeat_a_whole_file(copy: Path) -> None:
    profile = copy.with_suffix(".json")
    profile.write_text(profile.read_text()[:-20])
    with pytest.raises(WeightsError, match="json: Invalid JSON: EOF") as caught:
        load_weights(copy)
    assert len(str(caught.value)) < 200 + len(str(copy))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"padding": "none"}, "padding: expected 'symmetric', 'same_upper' or 'valid', got"),
        ({"colour": "BGR"}, "unknown key colour"),
        ({"network": "yolo"}, "network: expected one of squeezedet, squeezedet-plus, got 'yolo'"),
        ({"network": "squeezedet-plus"}, "expected shape (96, 3, 7, 7), got (64, 3, 3, 3)"),
        ({"input": {**INPUT, "width": 1242}}, "expected an input of multiples of 16 pixels for"),
        (
            {"input": {**INPUT, "height": 30}, "padding": "valid"},
            "expected an input of at least 31x31 pixels for squeezedet with padding valid",
        ),
        ({"input": {**INPUT, "width": 0}}, "input.width: expected greater than 0, got 0"),
        ({"parameters": 7}, "expected 7 parameters, got 2,082,120"),
    ],
)
def test_error_about_a_wrong_profile_names_the_key(
    copy: Path, changes: dict[str, Any], message: str
) -> None:
    edit_profile(copy, **changes)
    with pytest.raises(WeightsError) as caught:
        load_weights(copy)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_rejects_a_profile_that_is_not_json(copy: Path) -> None:
    copy.with_suffix(".json").write_text("{")
    with pytest.raises(WeightsError, match="json"):
        load_weights(copy)


def test_rejects_a_profile_without_a_required_key(copy: Path) -> None:
    path = copy.with_suffix(".json")
    values = json.loads(path.read_text())
    del values["anchors"]
    path.write_text(json.dumps(values))
    with pytest.raises(WeightsError, match="anchors is missing"):
        load_weights(copy)
