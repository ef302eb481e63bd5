from __future__ import annotations

import pytest

from squeezedrive.kernels.colours import Matrix, to_yuv

BLACK, WHITE, BLUE, RED = (0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 0, 255)


@pytest.mark.parametrize(
    ("colour", "matrix", "full_range", "expected"),
    [
        (BLACK, "bt601", False, (16, 128, 128)),
        (WHITE, "bt709", False, (235, 128, 128)),
        (BLACK, "bt709", True, (0, 128, 128)),
        (WHITE, "bt601", True, (255, 128, 128)),
        # Values from the colour bars of ITU-R BT.601 and BT.709, and from JPEG (JFIF 1.02).
        (RED, "bt601", False, (81, 90, 240)),
        (BLUE, "bt601", False, (41, 240, 110)),
        (RED, "bt709", False, (63, 102, 240)),
        (BLUE, "bt709", False, (32, 240, 118)),
        (RED, "bt601", True, (76, 85, 255)),
        (BLUE, "bt601", True, (29, 255, 107)),
    ],
)
def test_known_colours(
    colour: tuple[int, int, int],
    matrix: Matrix,
    full_range: bool,
    expected: tuple[int, int, int],
) -> None:
    assert to_yuv(colour, matrix, full_range) == expected
