"""Find pictures that are nearly the same, by a hash of their look."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

SHORTEST = 64  # pixels of a thumbnail's shorter side, enough for the whole hash
GRID = 16
HASH_BYTES = 2 * GRID * GRID // 8
LIMIT = 100
"""The number of bits, of 512, in which the hashes of nearly equal pictures may differ.

Measured on KITTI, BDD100K and Cityscapes: pictures of different scenes, one in train and one in
val, differ in at least 136 bits, pictures of the rendered street in at least 119, and two places
seen from behind the same bonnet in at least 112. The same picture with JPEG quality 30, at half the
size, 40 % darker or 30 % brighter differs in at most 80 bits, except for a few that differ in 105.
All pairs under 100 bits that were looked at show one place from one spot.
"""


def look_hash(thumbnail: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the difference hash (dHash) of a picture, in both directions, of 512 bits.

    Each bit says whether a field of a 16x16 grid is darker than the field to its right or the field
    below it. Brightness, contrast, size and compression of the picture hardly change the bits.

    Parameters
    ----------
    thumbnail : uint8 array (height, width)
        Brightness.

    Returns
    -------
    uint8 array (64,)
    """
    wide = cv2.resize(thumbnail, (GRID + 1, GRID), interpolation=cv2.INTER_AREA)
    high = cv2.resize(thumbnail, (GRID, GRID + 1), interpolation=cv2.INTER_AREA)
    bits = (wide[:, 1:] > wide[:, :-1], high[1:] > high[:-1])
    return np.packbits(np.concatenate([part.ravel() for part in bits]))


def find_copies(
    hashes: NDArray[np.uint8], others: NDArray[np.uint8], limit: int = LIMIT
) -> list[tuple[int, int, int]]:
    """Find the pictures that are nearly the same as one of `others`.

    Parameters
    ----------
    hashes, others : uint8 arrays (n, 64) and (m, 64)
        Hashes from `look_hash`.
    limit : int
        The largest number of bits that may differ.

    Returns
    -------
    list of (int, int, int)
        Index of the picture, index of the most similar of the others, bits that differ.
    """
    if not len(others):
        return []
    wide = np.ascontiguousarray(others).view(np.uint64)
    found = []
    for index, one in enumerate(np.ascontiguousarray(hashes).view(np.uint64)):
        bits = np.bitwise_count(wide ^ one).sum(axis=1, dtype=np.intp)
        nearest = int(bits.argmin())
        if bits[nearest] <= limit:
            found.append((index, nearest, int(bits[nearest])))
    return found


def stack(hashes: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return hashes as an array (n, 64)."""
    return np.array(hashes, np.uint8).reshape(-1, HASH_BYTES)
