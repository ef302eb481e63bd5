"""Draw detections and a status line into a picture."""

from __future__ import annotations

import colorsys
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from squeezedrive.kernels.detections import Detections
from squeezedrive.pipeline.canvas import Canvas, Colour, Rect, canvas_of
from squeezedrive.pipeline.core.frame import Image
from squeezedrive.pipeline.core.planes import YuvPicture

# Computed: for normal sight and simulated protanopia, deuteranopia and tritanopia (Machado et al.
# 2009) any two of them are at least 40 apart in CIELAB, and black text on a plate of any of them
# has a contrast of 4.5 or more on any background.
ROAD_COLOURS: dict[str, Colour] = {
    "car": (255, 196, 53),  # sky blue
    "pedestrian": (121, 79, 255),  # pink
    "cyclist": (10, 214, 255),  # yellow
}
BLACK: Colour = (0, 0, 0)
WHITE: Colour = (255, 255, 255)

LABEL_OPACITY = 0.88
STATUS_OPACITY = 0.65
FONT_WEIGHT = 500
MIN_FONT = 12  # pixels; smaller text does not survive video compression


def class_colours(class_names: Sequence[str]) -> list[Colour]:
    """Return one colour per class.

    Parameters
    ----------
    class_names : sequence of str
        Names in the order of the class indices.

    Returns
    -------
    list of (int, int, int)
        BGR, 0 to 255. Road users have fixed colours. Any other class gets the first hue of a
        sequence started by its name that is far enough from the colours before it, so it keeps
        its colour from run to run.
    """
    enough = 90.0  # distance in BGR that reads as another colour
    taken = list(ROAD_COLOURS.values())
    colours = []
    for name in class_names:
        colour = ROAD_COLOURS.get(name)
        if colour is None:
            distances = {
                candidate: min(math.dist(candidate, other) for other in taken)
                for candidate in _candidates(name)
            }
            # max returns the first of equals: the first far enough, or else the farthest.
            colour = max(distances, key=lambda c: min(distances[c], enough))
            taken.append(colour)
        colours.append(colour)
    return colours


def _candidates(name: str) -> list[Colour]:
    """Return colours in an order that depends on the name only; steps of the golden ratio."""
    start = zlib.crc32(name.encode()) / 2**32
    colours = []
    for k in range(96):
        hue = (start + k * 0.618034) % 1.0
        r, g, b = colorsys.hsv_to_rgb(hue, (0.75, 0.45, 0.95)[k % 3], (1.0, 0.95, 0.75)[k % 3])
        colours.append((round(b * 255), round(g * 255), round(r * 255)))
    return colours


def text_colour(plate: Colour) -> Colour:
    """Return black or white, whichever has more contrast on a plate (WCAG 2 luminance)."""
    # Black wins where (L + 0.05) / 0.05 > 1.05 / (L + 0.05).
    return BLACK if luminance(plate) > (0.05 * 1.05) ** 0.5 - 0.05 else WHITE


def luminance(colour: Colour) -> float:
    """Return the relative luminance of a BGR colour, 0 to 1 (WCAG 2.1, sRGB)."""
    b, g, r = (
        (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4)
        for c in (v / 255 for v in colour)
    )
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@dataclass(frozen=True)
class _Style:
    """Sizes in pixels that suit one frame size."""

    line: int
    halo: int  # dark rim on both sides of a line, to see it on any background
    font: int
    pad: int
    plate_height: int
    baseline: int  # below the top of a plate

    @classmethod
    def for_frame(cls, height: int, width: int) -> _Style:
        # 1 at 1920x1080. The area, not the height: wide KITTI frames are shown as wide as others.
        scale = (height * width / (1920 * 1080)) ** 0.5
        font = max(MIN_FONT, round(20 * scale))
        pad = max(2, round(0.3 * font))
        capital = round(0.75 * font)
        return cls(
            line=2 + round(2 * scale),
            halo=max(1, round(scale)),
            font=font,
            pad=pad,
            plate_height=capital + 2 * pad,
            baseline=capital + pad,
        )


class Painter:
    """Draws boxes with labels, and a status line, into pictures of any size.

    Boxes are drawn first, then labels, both from the lowest score to the highest, which is on top.
    Labels stay inside the frame and do not overlap: each goes above its box, into it or below it,
    whichever is free. A label without room shows only its score, and is left out if that has no
    room either, as the colour still shows the class. The larger (nearer) box chooses first: sizes
    change less from frame to frame than scores, so labels keep still.

    Parameters
    ----------
    class_names : sequence of str
        Names in the order of the class indices.
    status : bool
        Whether to draw the status line.
    aspect : float
        Width of a pixel over its height: lines and text look as in a picture of square pixels.

    Attributes
    ----------
    colours : list of (int, int, int)
        BGR colour of each class.
    """

    def __init__(
        self, class_names: Sequence[str], status: bool = True, aspect: float = 1.0
    ) -> None:
        self.class_names = list(class_names)
        self.colours = class_colours(class_names)
        self._text_colours = [text_colour(colour) for colour in self.colours]
        self._status = status
        self._aspect = aspect
        self._font = cv2.FontFace("sans")  # the TrueType font inside OpenCV

    def draw(
        self,
        picture: Image | YuvPicture,
        detections: Detections,
        status_text: str | None = None,
        ids: NDArray[np.int32] | None = None,
    ) -> None:
        """Draw into a picture, in place.

        Parameters
        ----------
        picture : uint8 array (height, width, 3), or YuvPicture
            BGR, C-contiguous; or YUV.
        detections : Detections
            Boxes in pixels of the picture. What lies outside is cut off; a box wholly outside is
            not drawn.
        status_text : str or None
            Text of the status line, one line; None for none. Not drawn in a frame too small
            for it.
        ids : int32 array (n,) or None
            Number of the object that each detection is, for its label; None for none.
        """
        self.draw_on(canvas_of(picture), detections, status_text, ids)

    def draw_on(
        self,
        canvas: Canvas,
        detections: Detections,
        status_text: str | None = None,
        ids: NDArray[np.int32] | None = None,
    ) -> None:
        """Draw as `draw` does, on any canvas."""
        height, width = canvas.height, canvas.width
        # Labels are laid out as they are shown: in pixels of the picture's height, all square.
        shown = (int(width * self._aspect), height)
        style = _Style.for_frame(height, shown[0])
        status = self._draw_status(canvas, style, status_text) if self._status else None
        inside = np.all(detections.boxes[:, :2] < (width, height), axis=1) & np.all(
            detections.boxes[:, 2:] > 0, axis=1
        )
        detections = detections[inside]
        numbers = None if ids is None else ids[inside].tolist()
        if not len(detections):
            return
        # Half a line off the edge, so that the line of a clamped box is seen whole.
        margin = style.line // 2
        low = np.array([margin / self._aspect, margin] * 2).astype(int)
        high = np.maximum(np.array([width, height] * 2) - 1 - low, low)
        boxes = np.rint(np.clip(detections.boxes, low, high)).astype(int).tolist()
        classes = detections.classes.tolist()
        names = [self.class_names[k] for k in classes]
        if numbers is not None:
            names = [f"{name} {number}" for name, number in zip(names, numbers, strict=True)]
        scores = [f"{score:.2f}" for score in detections.scores.tolist()]

        worst_first = range(len(boxes) - 1, -1, -1)
        for i in worst_first:
            _outline(canvas, boxes[i], style, self.colours[classes[i]], self._aspect)

        places = [
            [round(x1 * self._aspect), y1, round(x2 * self._aspect), y2] for x1, y1, x2, y2 in boxes
        ]
        labels = self._place_labels(places, names, scores, style, shown, status)
        for i in worst_first:
            if i in labels:
                text, plate = labels[i]
                k = classes[i]
                colours = self.colours[k], self._text_colours[k]
                self._write(canvas, style, text, plate, *colours, LABEL_OPACITY)

    def _draw_status(self, canvas: Canvas, style: _Style, text: str | None) -> Rect | None:
        """Draw the status line and return its place, or None if there is none."""
        if not text:
            return None
        # Whole steps, so that the width does not change with every digit.
        step = style.font
        width = -(-self._plate_width(style, text) // step) * step
        plate = (style.pad, style.pad, style.pad + width, style.pad + style.plate_height)
        if plate[2] > int(canvas.width * self._aspect) or plate[3] > canvas.height:
            return None
        self._write(canvas, style, text, plate, BLACK, WHITE, STATUS_OPACITY)
        return plate

    def _place_labels(
        self,
        boxes: list[list[int]],
        names: list[str],
        scores: list[str],
        style: _Style,
        frame: tuple[int, int],
        status: Rect | None,
    ) -> dict[int, tuple[str, Rect]]:
        """Return text and plate of each box that gets a label, by the box's index."""
        taken = [] if status is None else [status]
        labels = {}
        areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in boxes]
        for i in sorted(range(len(boxes)), key=areas.__getitem__, reverse=True):
            score = scores[i]
            for text in (f"{names[i]} {score}", score):
                size = (self._plate_width(style, text), style.plate_height)
                if text != score and size[0] > 3 * (boxes[i][2] - boxes[i][0]):
                    continue  # a label much larger than its box hides which box it belongs to
                plate = _free_place(boxes[i], size, style.line // 2 + style.halo, frame, taken)
                if plate is not None:
                    taken.append(plate)
                    labels[i] = (text, plate)
                    break
        return labels

    def _plate_width(self, style: _Style, text: str) -> int:
        size = cv2.getTextSize((0, 0), text, (0, 0), self._font, style.font, FONT_WEIGHT)
        return int(size[2]) + 2 * style.pad

    def _write(
        self,
        canvas: Canvas,
        style: _Style,
        text: str,
        plate: Rect,
        below: Colour,
        colour: Colour,
        opacity: float,
    ) -> None:
        """Write text on a plate of the colour `below`, at `plate` in square pixels."""
        x1, y1, x2, y2 = plate
        left, right = round(x1 / self._aspect), round(x2 / self._aspect)

        def put_text(pixels: Image, ink: Colour) -> None:
            square = pixels
            if self._aspect != 1:
                square = cv2.resize(pixels, (x2 - x1, y2 - y1))  # type: ignore[assignment]
            origin = (style.pad, style.baseline)
            cv2.putText(square, text, origin, ink, self._font, style.font, FONT_WEIGHT)
            if square is not pixels:
                size = pixels.shape[1], pixels.shape[0]
                cv2.resize(square, size, dst=pixels, interpolation=cv2.INTER_AREA)

        canvas.write((left, y1, max(right, left + 1), y2), below, opacity, colour, put_text)


def _outline(canvas: Canvas, box: list[int], style: _Style, colour: Colour, aspect: float) -> None:
    """Draw a line with dark rims, centred on the edges of a box."""
    x1, y1, x2, y2 = box
    begin, end = -(style.line // 2), style.line - style.line // 2

    def inset(by: float, more: int = 0) -> Rect:
        dx, dy = math.floor(by / aspect) + more, math.floor(by) + more
        return x1 + dx, y1 + dy, x2 - dx + 1, y2 - dy + 1

    # Of narrow pixels, several make the width of a line.
    last = end + style.halo - 1 / max(1, math.ceil(1 / aspect))
    _frame(canvas, inset(begin - style.halo), inset(last, 1), BLACK)
    _frame(canvas, inset(begin), inset(end), colour)


def _frame(canvas: Canvas, outer: Rect, inner: Rect, colour: Colour) -> None:
    """Fill the area between two rectangles."""
    x1, y1, x2, y2 = outer
    if x1 >= x2 or y1 >= y2:
        return
    left, top, right, bottom = inner
    if left >= right or top >= bottom:
        canvas.fill(outer, colour)
        return
    canvas.fill((x1, y1, x2, top), colour)
    canvas.fill((x1, bottom, x2, y2), colour)
    canvas.fill((x1, top, left, bottom), colour)
    canvas.fill((right, top, x2, bottom), colour)


def _free_place(
    box: list[int], size: tuple[int, int], outset: int, frame: tuple[int, int], taken: list[Rect]
) -> Rect | None:
    """Return the best place for a label inside the frame that covers no other label."""
    x1, y1, x2, y2 = box
    w, h = size
    if w > frame[0] or h > frame[1]:
        return None
    left, right = x1 - outset, x2 + outset + 1 - w
    above, below = y1 - outset - h, y2 + outset + 1
    places = [(left, above), (right, above)]
    if x2 - x1 > w and y2 - y1 > 2 * h:
        places.append((x1 + outset, y1 + outset))
    places += [(left, below), (right, below)]
    places.append((left, min(max(above, 0), frame[1] - h)))
    for x, y in places:
        x = min(max(x, 0), frame[0] - w)
        if 0 <= y <= frame[1] - h and not any(
            x < b[2] and b[0] < x + w and y < b[3] and b[1] < y + h for b in taken
        ):
            return (x, y, x + w, y + h)
    return None
