"""Read pictures for the calibration in the form of the network's input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from squeezedrive.engines.datasets.images import read_image
from squeezedrive.engines.model.profile import Profile
from squeezedrive.kernels.fit import FitMode as FitKind
from squeezedrive.kernels.fit import make_fit


def spread(pictures: Sequence[Path], count: int) -> list[Path]:
    """Return `count` pictures at equal distances; all pictures if there are fewer.

    Neighbours are often frames of one drive, so the first `count` pictures would be too similar.
    """
    count = min(count, len(pictures))
    return [pictures[(2 * index + 1) * len(pictures) // (2 * count)] for index in range(count)]


def read_pixels(
    pictures: Sequence[Path],
    profile: Profile,
    size: tuple[int, int],
    fit: FitKind,
    band_centre: float,
) -> Iterator[NDArray[np.float32]]:
    """Yield pictures as float32 arrays (1, 3, height, width), 0 to 255, for `build_onnx`'s graph.

    Raises
    ------
    DatasetError
        If a picture cannot be read.
    """
    bgr = profile.input.channels == "BGR"
    network_input = np.empty((size[1], size[0], 3), np.uint8)
    for path in pictures:
        image = read_image(path)
        chosen = make_fit(fit, (image.shape[1], image.shape[0]), size, band_centre)
        chosen.preprocess(image, profile.input.fill, network_input)
        pixels = network_input if bgr else network_input[:, :, ::-1]
        yield np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32)
