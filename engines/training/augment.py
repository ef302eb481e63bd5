"""Augment training pictures: each time with another window, size and light."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from squeezedrive.engines.datasets.dataset import LabelledImage, Labels
from squeezedrive.engines.training.config import AugmentConfig
from squeezedrive.kernels.fit import Fit


@dataclass(frozen=True)
class Sample:
    """A training picture and its labels.

    Attributes
    ----------
    image : uint8 array (height, width, 3)
        BGR, of the window's size.
    boxes : float32 array (n, 4)
        Corners x1, y1, x2, y2 of the objects in pixels of the window.
    classes : int64 array (n,)
    ignore_boxes : float32 array (m, 4)
        Regions in which boxes are neither right nor wrong.
    ignore_classes : int64 array (m,)
        The class for which a region is ignored, or `EVERY_CLASS`.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]
    ignore_boxes: NDArray[np.float32]
    ignore_classes: NDArray[np.int64]


@dataclass(frozen=True)
class _View:
    """The mapping from network pixels to the window: x' = x scale + offset, then mirrored."""

    scale: NDArray[np.float64]
    offset: NDArray[np.float64]
    mirrored: bool


def draw_window(
    image: NDArray[np.uint8],
    item: LabelledImage,
    fit: Fit,
    window: tuple[int, int],
    config: AugmentConfig,
    fill: tuple[int, int, int],
    rng: np.random.Generator,
    edges: bool = False,
    reach: float = 0.0,
) -> Sample:
    """Cut a random window out of a picture (shifted, enlarged, mirrored), together with its boxes.

    Parameters
    ----------
    image : uint8 array (height, width, 3)
        The picture that `item` labels, BGR.
    fit : Fit
        The fit used in inference, from which the random changes start.
    window : tuple of int
        Width and height of the result.
    fill : tuple of int
        Blue, green and red outside the picture.
    edges : bool
        Whether boxes end at the edges of pixels, as in COCO and YOLO layout: one around the whole
        picture at its width and height. Else on their last pixels, as in KITTI's.
    reach : float
        Pixels by which boxes may go beyond the window's edges: see `kernels.head.Head`.
    """
    labels = item.labels
    boxes = fit.to_network(labels.boxes)
    view = _choose_view(boxes, labels, fit, window, config, rng)
    # As in cv2.resize, the corners of the pictures coincide, so pixel centres shift by half a
    # pixel.
    x0, y0, x1, y1 = fit.crop
    tx0, ty0, tx1, ty1 = fit.target
    shrink = np.array([(tx1 - tx0) / (x1 - x0), (ty1 - ty0) / (y1 - y0)])
    scale = shrink * view.scale
    offset = (np.array([tx0, ty0]) - np.array([x0, y0]) * shrink) * view.scale + view.offset
    offset += (scale - 1) / 2
    matrix = np.array([[scale[0], 0, offset[0]], [0, scale[1], offset[1]]])
    if view.mirrored:
        matrix[0] = -matrix[0]
        matrix[0, 2] += window[0] - 1
    pixels = cv2.warpAffine(
        image, matrix, window, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT,
        borderValue=fill,
    )  # fmt: skip

    moved, sides, visible = _move(boxes, view, window, edges, reach)
    there = (sides > 0).all(axis=1)
    good = (visible >= config.min_visible) & (sides >= config.min_size).all(axis=1)
    good &= there & ~labels.neighbour
    regions, shown, _ = _move(fit.to_network(item.ignore_boxes), view, window, edges, reach)
    seen = (shown > 0).all(axis=1)
    return Sample(
        np.asarray(pixels, np.uint8),
        moved[good],
        labels.classes[good].astype(np.int64),
        np.concatenate([moved[there & ~good], regions[seen]]),
        np.concatenate([labels.classes[there & ~good], item.ignore_classes[seen]]).astype(np.int64),
    )


def _choose_view(
    boxes: NDArray[np.float32],
    labels: Labels,
    fit: Fit,
    window: tuple[int, int],
    config: AugmentConfig,
    rng: np.random.Generator,
) -> _View:
    zoom = np.exp(rng.uniform(*np.log(config.zoom)))
    aspect = np.exp(rng.uniform(-1, 1) * np.log1p(config.aspect) / 2)
    scale = np.array([zoom * aspect, zoom / aspect])
    size = np.array(window, np.float64)
    # The enlarged network input lies inside the window, or the window inside it, up to the drift.
    whole = np.array(fit.input_size) * scale
    slack = np.abs(whole - size) / 2 + np.array(config.drift)
    shift = rng.uniform(-1, 1, 2) * slack
    classes = np.where(labels.neighbour, -1, labels.classes)
    wanted = np.unique(classes[classes >= 0])
    if rng.random() < config.aim and len(wanted):
        # The class is drawn first, so that rare classes occur as often as frequent ones.
        index = rng.choice(np.flatnonzero(classes == rng.choice(wanted)))
        centre = (boxes[index, :2] + boxes[index, 2:]) / 2 * scale
        aimed = whole / 2 - centre + rng.uniform(-0.4, 0.4, 2) * size
        shift = np.clip(aimed, -slack, slack)
    return _View(scale, (size - whole) / 2 + shift, bool(rng.random() < config.flip))


def _move(
    boxes: NDArray[np.float32], view: _View, window: tuple[int, int], edges: bool, reach: float
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """Return boxes of the network's input in the window, clipped to its reach, and what is visible.

    That is width and height (n, 2) in pixels of the window, and the share of the area (n,).
    """
    moved = boxes.reshape(-1, 2, 2) * view.scale + view.offset
    last = np.array(window) - 1
    if view.mirrored:
        moved[..., 0] = (window[0] if edges else last[0]) - moved[:, ::-1, 0]
    clipped = np.clip(moved, 0, last)
    sides = clipped[:, 1] - clipped[:, 0]
    whole = np.prod(moved[:, 1] - moved[:, 0], axis=1)
    visible = np.divide(np.prod(sides, axis=1), whole, out=np.zeros(len(boxes)), where=whole > 0)
    reached = np.clip(moved, -reach, last + reach)
    return reached.reshape(-1, 4).astype(np.float32), sides, visible


def join(samples: list[Sample], at: tuple[int, int]) -> Sample:
    """Join four windows, given in reading order, so that they meet at a point (a mosaic)."""
    top, bottom = (np.hstack([a.image, b.image]) for a, b in (samples[:2], samples[2:]))
    corners = [(0, 0), (at[0], 0), (0, at[1]), at]
    offsets = [np.array(corner * 2, np.float32) for corner in corners]
    return Sample(
        np.vstack([top, bottom]),
        np.concatenate([s.boxes + o for s, o in zip(samples, offsets, strict=True)]),
        np.concatenate([s.classes for s in samples]),
        np.concatenate([s.ignore_boxes + o for s, o in zip(samples, offsets, strict=True)]),
        np.concatenate([s.ignore_classes for s in samples]),
    )


def change_light(
    image: NDArray[np.uint8], config: AugmentConfig, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Change a BGR picture's colours; sometimes darken it as at night or compress it as JPEG."""
    matrix = _colour_matrix(config, rng)
    if not np.array_equal(matrix, np.eye(3, 4)):
        image = np.asarray(cv2.transform(image, matrix), np.uint8)
    if rng.random() < config.night:
        image = _night(image, rng)
    if rng.random() < config.jpeg:
        quality = int(rng.integers(25, 91))
        _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        image = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)
    return image


def _colour_matrix(config: AugmentConfig, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return colour changes as one affine map (3, 4) of BGR values, applied in a single pass."""
    luma = np.tile([0.114, 0.587, 0.299], (3, 1))
    saturation = 1 + rng.uniform(-1, 1) * config.saturation
    saturate = saturation * np.eye(3) + (1 - saturation) * luma
    # A change of hue is a rotation about the grey axis (Rodrigues' formula).
    angle = np.deg2rad(rng.uniform(-1, 1) * config.hue)
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    turn = np.cos(angle) * np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) / 3
    contrast = 1 + rng.uniform(-1, 1) * config.contrast
    balance = 1 + rng.uniform(-1, 1, 3) * config.balance
    brightness = 255 * rng.uniform(-1, 1) * config.brightness
    colours = contrast * balance[:, None] * (turn @ saturate)
    # Contrast changes around middle grey.
    shift = np.full((3, 1), 128 * (1 - contrast) + brightness)
    return np.hstack([colours, shift])


def _night(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Darken a picture, most of all its shadows, and add sensor noise."""
    gain, gamma = rng.uniform(0.2, 0.7), rng.uniform(1.0, 1.8)
    curve = 255 * gain * (np.arange(256) / 255) ** gamma
    dark = cv2.LUT(image, np.round(curve).astype(np.uint8))
    noise = rng.standard_normal(dark.shape, np.float32) * np.float32(rng.uniform(0, 6))
    return np.clip(dark + noise, 0, 255).astype(np.uint8)
