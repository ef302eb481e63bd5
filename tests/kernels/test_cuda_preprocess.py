"""Preprocessing on the GPU, compared with the CPU; `tests.support.gpu` says where this runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import cuda
from numpy.typing import NDArray

from squeezedrive.kernels.cuda import preprocess
from squeezedrive.kernels.cuda.preprocess import Preprocessor
from squeezedrive.kernels.fit import Fit, FitMode, make_fit
from tests.support.gpu import SIMULATED, needs_target, simulate_lightly

pytestmark = [pytest.mark.gpu, needs_target]

MEAN = (103.939, 116.779, 123.68)
FILL = (104, 117, 124)  # blue, green, red
INPUT = (17, 9) if SIMULATED else (1248, 384)
SIZES = [(64, 48), (47, 31), (12, 5), (17, 9), (131, 7), (3, 30), (34, 18), (1, 1)]
if not SIMULATED:
    SIZES += [(1920, 1080), (1392, 512), (3840, 2160)]


@pytest.fixture(autouse=True)
def _light(monkeypatch: pytest.MonkeyPatch) -> None:
    if SIMULATED:
        simulate_lightly(monkeypatch, preprocess, preprocess.resize_bgr, preprocess.resize_nv12)


def expected_input(
    fit: Fit, image: NDArray[np.uint8], channels: str, scale: float, dtype: Any
) -> NDArray[Any]:
    """Return the input as the CPU makes it: resized bytes, then mean, scale and layout."""
    pixels = np.empty((fit.input_size[1], fit.input_size[0], 3), np.uint8)
    fit.preprocess(image, FILL, pixels)
    if channels == "RGB":
        pixels = pixels[..., ::-1]
    values = (pixels.astype(np.float32) - np.array(MEAN, np.float32)) * np.float32(scale)
    return values.transpose(2, 0, 1).astype(dtype)


def assert_within_a_level(actual: NDArray[Any], expected: NDArray[Any], scale: float) -> None:
    difference = np.abs(actual.astype(np.float64) - expected.astype(np.float64)) / scale
    assert difference.max() <= 1.07  # half precision near 150 resolves 1/8
    # OpenCV's vectorised resize gives identical bits; its other builds round differently.
    assert (difference < 0.1).mean() > 0.8


def run(preprocessor: Preprocessor, source: Any, batch: int) -> NDArray[Any]:
    width, height = preprocessor.fit.input_size
    blank = np.full((batch, 3, height, width), np.nan, preprocessor.dtype)
    target = cuda.to_device(blank)
    preprocessor.enqueue(source, target, 0)
    return target.copy_to_host()


@pytest.mark.parametrize("kind", ["band", "letterbox", "stretch"])
@pytest.mark.parametrize("size", SIZES)
def test_bgr_pictures_of_any_size_match_the_cpu(kind: FitMode, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(size[0])
    fit = make_fit(kind, size, INPUT, 0.6)
    image = rng.integers(0, 256, (size[1], size[0], 3), np.uint8)
    preprocessor = Preprocessor(fit, None, MEAN, 1.0, "BGR", FILL, np.dtype(np.float32))
    # image[None] would be slow: Numba copies an array with a stride of 0 value by value, in Python.
    (actual,) = run(preprocessor, cuda.to_device(image.reshape(1, *image.shape)), 1)
    assert_within_a_level(actual, expected_input(fit, image, "BGR", 1.0, np.float32), 1.0)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("channels", ["BGR", "RGB"])
def test_batches_with_padded_rows_match_the_cpu(channels: Any, dtype: Any) -> None:
    rng = np.random.default_rng(1)
    fit = make_fit("letterbox", (40, 30), INPUT, 0.5)
    images = rng.integers(0, 256, (2, 30, 64, 3), np.uint8)
    preprocessor = Preprocessor(fit, None, MEAN, 1 / 64, channels, FILL, np.dtype(dtype))
    actual = run(preprocessor, cuda.to_device(images)[:, :, :40], 2)
    for i, image in enumerate(images):
        expected = expected_input(fit, image[:, :40], channels, 1 / 64, dtype)
        assert_within_a_level(actual[i], expected, 1 / 64)


def nv12_to_bgr(
    luma: NDArray[np.uint8], chroma: NDArray[np.uint8], matrix: str
) -> NDArray[np.uint8]:
    """Convert limited range YUV by the definition of BT.601 and BT.709."""
    kr, kb = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}[matrix]
    rows, columns = luma.shape
    y = (luma.astype(np.float64) - 16) / 219
    u, v = (
        (chroma[:, i::2].repeat(2, 0).repeat(2, 1)[:rows, :columns].astype(np.float64) - 128) / 224
        for i in (0, 1)
    )
    red = y + 2 * (1 - kr) * v
    blue = y + 2 * (1 - kb) * u
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    levels = np.stack([blue, green, red], axis=-1) * 255
    return np.rint(levels.clip(0, 255)).astype(np.uint8)


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize(
    ("kind", "size"),
    [("band", (64, 48)), ("letterbox", (64, 48)), ("stretch", (47, 31)), ("band", (12, 6))],
)
def test_nv12_pictures_match_the_definition_of_yuv(
    kind: FitMode, size: tuple[int, int], matrix: Any
) -> None:
    rng = np.random.default_rng(2)
    width, height = size
    fit = make_fit(kind, size, INPUT, 0.4)
    luma = rng.integers(0, 256, (2, height, width + 3), np.uint8)
    chroma = rng.integers(0, 256, (2, (height + 1) // 2, width + width % 2 + 4), np.uint8)
    preprocessor = Preprocessor(fit, matrix, MEAN, 1.0, "RGB", FILL, np.dtype(np.float32))
    actual = run(preprocessor, (cuda.to_device(luma), cuda.to_device(chroma)), 2)
    for i in range(2):
        image = nv12_to_bgr(luma[i, :, :width], chroma[i], matrix)
        expected = expected_input(fit, image, "RGB", 1.0, np.float32)
        assert_within_a_level(actual[i], expected, 1.0)


def test_rejects_invalid_arguments() -> None:
    fit = make_fit("stretch", (40, 30), INPUT, 0.5)
    single = np.dtype(np.float32)
    for arguments, message in (
        (("bt2020", MEAN, 1.0, "BGR", FILL, single), "matrix one of None, .* got 'bt2020'"),
        ((None, MEAN, 1.0, "GBR", FILL, single), "channels one of BGR, RGB, got 'GBR'"),
        ((None, MEAN, 1.0, "BGR", FILL, np.dtype(float)), "dtype one of .* got 'float64'"),
    ):
        with pytest.raises(ValueError, match=message):
            Preprocessor(fit, *arguments)  # type: ignore[arg-type]

    target = cuda.device_array((1, 3, INPUT[1], INPUT[0]), np.float32)
    packed = Preprocessor(fit, None, MEAN, 1.0, "BGR", FILL, single)
    with pytest.raises(ValueError, match=r"picture of shape \(1, 30, 40, 3\).* \(1, 30, 41, 3\)"):
        packed.enqueue(cuda.device_array((1, 30, 41, 3), np.uint8), target, 0)
    half = cuda.device_array(target.shape, np.float16)
    with pytest.raises(ValueError, match=r"network input of shape .* got .* float16"):
        packed.enqueue(cuda.device_array((1, 30, 40, 3), np.uint8), half, 0)
    planar = Preprocessor(fit, "bt709", MEAN, 1.0, "BGR", FILL, single)
    luma, short = cuda.device_array((1, 30, 40), np.uint8), cuda.device_array((1, 15, 39), np.uint8)
    with pytest.raises(ValueError, match=r"chroma of shape \(1, 15, 40\)"):
        planar.enqueue((luma, short), target, 0)
