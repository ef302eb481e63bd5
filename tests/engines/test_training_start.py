"""Starting a training with the head of a network with other anchor shapes or class names."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch", reason="training needs PyTorch: pip install -e '.[train]'")

import torch

from squeezedrive.engines.errors import WeightsError
from squeezedrive.engines.model.profile import Profile
from squeezedrive.engines.model.weights import DEFAULT, load_weights
from squeezedrive.engines.training.model import TrainableNetwork
from squeezedrive.engines.training.start import start_from
from squeezedrive.kernels.reference import decode

torch.set_num_threads(1)
SHAPES = (
    (40, 20),
    (10, 50),
    (30, 60),
    (70, 30),
    (44, 90),
    (90, 60),
    (200, 80),
    (100, 200),
    (400, 250),
)
NAMES = ("vehicle", "person", "rider")


def changed(group: str, **values: Any) -> Profile:
    """Return the shipped profile with changed values in one of its groups."""
    profile = load_weights(DEFAULT).profile
    new = profile.model_dump()
    new[group].update(values)
    return Profile.model_validate(new)


@torch.no_grad()
def found(profile: Profile, head_start: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return all boxes and scores in a small picture of noise."""
    model = TrainableNetwork(profile)
    assert start_from(model, DEFAULT, head_start) == []
    pixels = np.random.default_rng(3).integers(0, 256, (1, 3, 64, 128)).astype(np.float32)
    output = model.eval()(torch.from_numpy(pixels))[0].numpy()
    # Above its threshold, the exponential is linear and a kept head does not convert sizes exactly.
    head = replace(profile.head(128, 64), exp_threshold=np.inf)
    boxes, scores, _ = decode(output, head)
    return boxes, scores


@pytest.mark.parametrize(
    "profile",
    [changed("anchors", shapes=SHAPES), changed("output", classes=NAMES)],
    ids=["other anchors", "other names"],
)
def test_kept_head_finds_the_same_boxes(profile: Profile) -> None:
    before = found(load_weights(DEFAULT).profile, "auto")
    boxes, scores = found(profile, "keep")
    np.testing.assert_allclose(boxes, before[0], atol=0.02)
    np.testing.assert_allclose(scores, before[1], rtol=1e-5)


def test_new_head_is_random_even_if_the_old_one_fits() -> None:
    assert start_from(TrainableNetwork(load_weights(DEFAULT).profile), DEFAULT, "new") == ["conv12"]


@pytest.mark.parametrize(
    ("group", "values", "part"),
    [
        ("output", {"classes": NAMES[:2]}, "number of classes 2 as in the configuration"),
        ("output", {"layout": "by_kind"}, "output.layout by_kind as in the configuration, these"),
        ("output", {"exponential_threshold": None}, "exponential_threshold None as in"),
        ("anchors", {"shapes": SHAPES[:4]}, "number of anchor shapes 4 as in"),
        ("anchors", {"centres": "even"}, "anchors.centres even as in"),
    ],
)
def test_rejects_heads_that_cannot_be_kept(group: str, values: dict[str, Any], part: str) -> None:
    model = TrainableNetwork(changed(group, **values))
    with pytest.raises(WeightsError, match=part):
        start_from(model, DEFAULT, "keep")


def test_rejects_keeping_the_head_of_a_backbone(tmp_path: Path) -> None:
    weights = load_weights(DEFAULT)
    np.savez(tmp_path / "backbone.npz", **weights.arrays)
    with pytest.raises(WeightsError, match=r"backbone\.json beside it is missing"):
        start_from(TrainableNetwork(weights.profile), tmp_path / "backbone.npz", "keep")
