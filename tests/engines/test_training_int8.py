"""Training with the rounding of the int8 model, and the model that it writes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

pytest.importorskip("torch", reason="training needs PyTorch: pip install -e '.[train]'")

import torch

from squeezedrive.engines.errors import ConfigError
from squeezedrive.engines.model.onnx_graph import DIGEST
from squeezedrive.engines.model.weights import DEFAULT, load_weights
from squeezedrive.engines.quantisation.graph import quantise_weights
from squeezedrive.engines.training.checkpoint import load_checkpoint
from squeezedrive.engines.training.config import load_train_config
from squeezedrive.engines.training.loop import train
from squeezedrive.engines.training.model import TrainableNetwork
from squeezedrive.engines.training.rounding import (
    build_int8,
    input_limits,
    round_input,
    round_weights,
)
from tests.support.rectangles import PLAIN, small, write_kitti

torch.set_num_threads(1)


def config(root: Path, **keys: Any) -> Any:
    plain = [(f"augment.{key}", value) for key, value in PLAIN.items()]
    keys = {"network__int8": True, "network__batch_norm": False, **keys}
    return load_train_config(None, [*plain, *small(root, network__init=str(DEFAULT), **keys)])


def test_rounds_weights_as_in_the_graph_and_passes_gradients() -> None:
    weight = torch.randn(8, 4, 3, 3, generator=torch.manual_seed(1))
    weight[3] = 0
    weight.requires_grad_()
    rounded = round_weights(weight)
    steps, scale = quantise_weights(weight.detach().numpy())
    expected = steps * scale[:, None, None, None]
    np.testing.assert_allclose(rounded.detach().numpy(), expected, atol=1e-6)
    rounded.sum().backward()
    assert weight.grad is not None
    assert (weight.grad == 1).all()


def test_clips_inputs_and_gradients_at_the_limit() -> None:
    x = torch.tensor([-3.0, -0.1, 0.0, 0.006, 0.5, 1.27, 2.0], requires_grad=True)
    y = round_input(x, 1.27)
    assert y.tolist() == pytest.approx([-1.27, -0.1, 0, 0.01, 0.5, 1.27, 1.27])
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 1, 1, 1, 1, 0]
    assert round_input(x, 0.0) is x


def test_network_in_training_matches_its_int8_model() -> None:
    weights = load_weights(DEFAULT)
    size = weights.profile.input.model_copy(update={"width": 128, "height": 64})
    profile = weights.profile.model_copy(update={"input": size})
    weights = type(weights)(profile, weights.arrays)
    pixels = np.random.default_rng(5).integers(0, 256, (2, 3, 64, 128)).astype(np.uint8)
    limits = input_limits(weights, pixels)
    model = TrainableNetwork(profile).eval()
    model.load_arrays(weights.arrays)
    picture = torch.from_numpy(pixels[:1])
    with torch.no_grad():
        plain = model(picture).numpy()
        model.round(limits)
        assert model.limits == limits
        ours = model(picture).numpy()
    graph = build_int8(weights, limits)
    graph.opset_import[0].version = 19  # the first version that the reference supports fully
    (theirs,) = ReferenceEvaluator(graph).run(None, {"image": pixels[:1].astype(np.float32)})
    # The order of additions depends on the processor, and a sum halfway between two integers may be
    # rounded up or down. The mean difference is below 1 % of the effect of the rounding with
    # AVX-512, and 18 % with AVX2.
    assert np.abs(ours - theirs).mean() < 0.3 * np.abs(theirs - plain).mean()


def test_writes_the_int8_model_and_resumes_with_the_same_limits(tmp_path: Path) -> None:
    root = write_kitti(tmp_path / "set", 4)
    out = tmp_path / "run"
    assert train(config(root, epochs=1, batch=2), out) == 0
    limits = load_checkpoint(out / "checkpoint.pt", torch.device("cpu"))["limits"]
    assert len(limits) == 32
    assert min(limits.values()) > 0
    assert train(config(root, epochs=2, batch=2), out, resume=True) == 0
    assert load_checkpoint(out / "checkpoint.pt", torch.device("cpu"))["limits"] == limits
    model = onnx.load(str(out / "run.int8.onnx"))
    notes = {entry.key: entry.value for entry in model.metadata_props}
    assert notes[DIGEST] == load_weights(out / "run.npz").digest()
    assert json.loads(notes["quantisation"])["float"] == []
    scales = {c.name: onnx.numpy_helper.to_array(c) for c in model.graph.initializer}
    used = [value for name, value in scales.items() if name.endswith("_scale") and value.ndim == 0]
    assert sorted(set(limits.values())) == pytest.approx(sorted(127 * float(s) for s in used))


@pytest.mark.parametrize("keys", [{"network__batch_norm": True}, {"network__init": None}])
def test_rejects_int8_with_batch_norm_or_without_weights(
    tmp_path: Path, keys: dict[str, Any]
) -> None:
    settings = [("network.int8", True), ("network.batch_norm", False), ("network.init", "a.npz")]
    settings += [(key.replace("__", "."), value) for key, value in keys.items()]
    with pytest.raises(ConfigError, match=r"network\.int8: expected network\.init and"):
        load_train_config(None, settings)
