"""Pictures of high dynamic range (PQ and HLG of ITU-R BT.2100) as plain SDR."""

from __future__ import annotations

from functools import lru_cache
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from squeezedrive.pipeline.core.frame import Image

TRANSFERS = {16: "PQ", 18: "HLG"}  # code points of ISO/IEC 23091-2
BT2020 = 9  # of primaries and of the colour matrix
UNSPECIFIED = 2
WHITE = 203.0  # cd/m2 of a white that SDR can show (ITU-R BT.2408)
CEILING = 4.0  # times that white; what is brighter looks the same
KNEE = 0.75  # of that white; what is darker is shown as bright as it is
# Linear BT.2020 to BT.709, blue first (ITU-R BT.2087).
TO_BT709 = np.array(
    [[1.1187, -0.1006, -0.0182], [-0.0083, 1.1329, -0.1246], [-0.0728, -0.5876, 1.6605]],
    np.float32,
)


def to_sdr(codes: NDArray[np.uint16], transfer: int, primaries: int) -> Image:
    """Return a picture with the transfer and primaries of BT.709.

    Highlights above `KNEE` are compressed, each channel by itself, and so is the system gamma of
    HLG applied: a display of 1,000 cd/m2 is what it is taken for.

    Parameters
    ----------
    codes : uint16 array (height, width, 3)
        BGR, full range, 0 to 65535.
    transfer : int
        One of `TRANSFERS`.
    primaries : int
        Code point; other than BT.2020 ones are left as they are.

    Returns
    -------
    uint8 array (height, width, 3)
        BGR.
    """
    light = cv2.LUT(codes, _to_light(transfer))
    if primaries in (BT2020, UNSPECIFIED):
        light = cv2.transform(light, TO_BT709)  # what BT.709 does not have is cut off
    return cast(Image, cv2.LUT(light, _from_light()))


@lru_cache(2)
def _to_light(transfer: int) -> NDArray[np.uint16]:
    """Return the light of 65,536 codes, 65535 for `CEILING` and more.

    OpenCV looks up 16 bits ten times as fast as NumPy does 10.
    """
    signal = np.linspace(0, 1, 65536)
    if TRANSFERS[transfer] == "PQ":
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        root = signal ** (1 / m2)
        nits = 10000 * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)
    else:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
        nits = 1000 * scene**1.2
    light: NDArray[np.uint16] = np.rint(np.minimum(nits / WHITE / CEILING, 1) * 65535).astype(
        np.uint16
    )
    return light


@lru_cache(1)
def _from_light() -> NDArray[np.uint8]:
    """Return the 8-bit code of light from 0 to `CEILING`: a roll-off, and BT.1886 backwards."""
    light = np.linspace(0, CEILING, 65536)
    over = np.maximum(light - KNEE, 0) / (1 - KNEE)
    shown = np.minimum(light, KNEE) + (1 - KNEE) * (1 - np.exp(-over))
    codes: NDArray[np.uint8] = np.rint(255 * shown ** (1 / 2.4)).astype(np.uint8)
    return codes
