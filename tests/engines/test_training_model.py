"""The PyTorch module gives the same results as the ONNX graph."""

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch", reason="training needs PyTorch: pip install -e '.[train]'")

import torch

from squeezedrive.engines.backends.cpu.openvino import compile_model, core
from squeezedrive.engines.errors import WeightsError
from squeezedrive.engines.model.onnx_graph import build_onnx
from squeezedrive.engines.model.weights import DEFAULT, Weights, load_weights, save_weights
from squeezedrive.engines.training.model import TrainableNetwork, _drop
from squeezedrive.engines.training.start import start_from
from tests.support.plus import plus_weights

torch.set_num_threads(1)


def run_onnx(weights: Weights, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    graph = build_onnx(weights, pixels.shape[3], pixels.shape[2])
    model = core().read_model(io.BytesIO(graph.SerializeToString()))
    compiled = compile_model(model, {"INFERENCE_PRECISION_HINT": "f32"})
    return np.array(compiled(pixels)[0])


def with_padding(padding: str) -> Weights:
    weights = load_weights(DEFAULT)
    return Weights(weights.profile.model_copy(update={"padding": padding}), weights.arrays)


def with_valid_padding(size: tuple[int, int]) -> Weights:
    """Return SqueezeDet+, which has valid padding, for an input of this size."""
    weights = plus_weights()
    shape = weights.profile.input.model_copy(update={"width": size[0], "height": size[1]})
    return Weights(weights.profile.model_copy(update={"input": shape}), weights.arrays)


def pixels(count: int = 1) -> torch.Tensor:
    rng = np.random.default_rng(1)
    return torch.from_numpy(rng.integers(0, 256, (count, 3, 64, 128)).astype(np.float32))


@pytest.mark.parametrize("padding", ["symmetric", "same_upper"])
def test_gives_the_same_output_as_onnx(padding: str) -> None:
    weights = with_padding(padding)
    model = TrainableNetwork(weights.profile).eval()
    assert model.load_arrays(weights.arrays) == []
    with torch.no_grad():
        ours = model(pixels()).numpy()
    theirs = run_onnx(weights, pixels().numpy())
    assert ours.shape == theirs.shape == (1, 72, 4, 8)
    np.testing.assert_allclose(ours, theirs, atol=2e-4 * np.abs(theirs).max())


@pytest.mark.parametrize("size", [(101, 67), (64, 51), (35, 35)])
def test_valid_padding_gives_the_same_output_as_onnx(size: tuple[int, int]) -> None:
    weights = with_valid_padding(size)
    model = TrainableNetwork(weights.profile).eval()
    assert model.load_arrays(weights.arrays) == []
    rng = np.random.default_rng(2)
    batch = rng.integers(0, 256, (1, 3, size[1], size[0])).astype(np.float32)
    with torch.no_grad():
        ours = model(torch.from_numpy(batch)).numpy()
    theirs = run_onnx(weights, batch)
    assert ours.shape == theirs.shape == (1, *weights.profile.head(*size).output_shape)
    np.testing.assert_allclose(ours, theirs, atol=2e-4 * np.abs(theirs).max())


def test_network_of_one_size_runs_other_sizes_correctly() -> None:
    """Training windows are smaller than the input; "same_upper" pads each size differently."""
    profile = load_weights(DEFAULT).profile
    for padding, size in (("valid", (99, 83)), ("same_upper", (96, 80))):
        shape = profile.input.model_copy(update={"width": size[0], "height": size[1]})
        changes = {"padding": padding, "input": shape}
        torch.manual_seed(0)
        whole = TrainableNetwork(profile.model_copy(update={"padding": padding})).eval()
        window = TrainableNetwork(profile.model_copy(update=changes)).eval()
        window.load_state_dict(whole.state_dict())
        rng = np.random.default_rng(3)
        batch = torch.from_numpy(rng.integers(0, 256, (1, 3, size[1], size[0]), np.uint8))
        with torch.no_grad():
            assert whole(batch).equal(window(batch))


def test_paddings_differ() -> None:
    outputs = []
    for padding in ("symmetric", "same_upper"):
        weights = with_padding(padding)
        model = TrainableNetwork(weights.profile).eval()
        model.load_arrays(weights.arrays)
        with torch.no_grad():
            outputs.append(model(pixels()))
    assert (outputs[0] - outputs[1]).abs().max() > 0.1


def test_returns_loaded_weights_bit_for_bit() -> None:
    weights = load_weights(DEFAULT)
    model = TrainableNetwork(weights.profile)
    model.load_arrays(weights.arrays)
    arrays = model.to_arrays()
    assert arrays.keys() == weights.arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, weights.arrays[name])


def normalised_model() -> tuple[TrainableNetwork, torch.Tensor]:
    """Return a model with inserted batch normalisation, and its output before; conv1 is frozen."""
    weights = load_weights(DEFAULT)
    model = TrainableNetwork(weights.profile).eval()
    model.load_arrays(weights.arrays)
    with torch.no_grad():
        before = model(pixels(4))
    model.freeze("pool1")
    model.insert_batch_norm(pixels(4), [])
    return model, before


def test_batch_norm_keeps_the_output_of_loaded_weights() -> None:
    model, before = normalised_model()
    assert model.unit("conv1").norm is None
    assert model.unit("conv12").norm is None
    assert model.unit("fire11_expand3x3").norm is not None
    for training in (False, True):  # training mode uses the statistics of these pictures
        model.train(training)
        with torch.no_grad():
            after = model(pixels(4))
        torch.testing.assert_close(after, before, rtol=0, atol=0.01 * before.abs().max().item())


def test_folded_weights_give_the_same_output() -> None:
    model, before = normalised_model()
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5)
    for _ in range(2):
        model(pixels(4)).square().mean().backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        unfolded = model(pixels(4))
        plain = TrainableNetwork(model.profile).eval()
        assert plain.load_arrays(model.to_arrays()) == []
        folded = plain(pixels(4))
    assert (unfolded - before).abs().max() > 1e-3 * before.abs().max()
    torch.testing.assert_close(folded, unfolded, rtol=0, atol=1e-4 * before.abs().max().item())


def test_fresh_layers_are_normalised() -> None:
    weights = load_weights(DEFAULT)
    model = TrainableNetwork(weights.profile)
    model.load_arrays(weights.arrays)
    model.insert_batch_norm(pixels(4), ["fire11_squeeze1x1"])
    seen = []
    unit = model.unit("fire11_squeeze1x1")
    assert unit.norm is not None
    unit.norm.register_forward_hook(lambda _, inputs, output: seen.append(output.clone()))
    model.eval()
    model(pixels(4))
    assert seen[0].mean().item() == pytest.approx(0, abs=0.01)
    assert seen[0].std().item() == pytest.approx(1, abs=0.05)


def test_frozen_layers_keep_their_weights() -> None:
    model = TrainableNetwork(load_weights(DEFAULT).profile)
    model.freeze("fire3")
    frozen = {name for name in model.units if not model.unit(name).conv.weight.requires_grad}
    assert frozen == {
        "conv1", "fire2_squeeze1x1", "fire2_expand1x1", "fire2_expand3x3",
        "fire3_squeeze1x1", "fire3_expand1x1", "fire3_expand3x3",
    }  # fmt: skip
    with pytest.raises(WeightsError, match="no layer 'fire12'"):
        model.freeze("fire12")


def test_untrained_head_has_the_prior_confidence() -> None:
    profile = load_weights(DEFAULT).profile
    for layout, first in (("per_anchor", [3, 11]), ("by_kind", [27, 28])):
        output = profile.output.model_copy(update={"layout": layout})
        model = TrainableNetwork(
            profile.model_copy(update={"output": output}), confidence_prior=0.01
        )
        bias = model.unit("conv12").conv.bias.detach()
        assert (bias != 0).sum() == 9
        np.testing.assert_allclose(torch.sigmoid(bias[first]).numpy(), 0.01, rtol=1e-5)


def test_start_from_a_backbone_leaves_the_rest_random(tmp_path: Path) -> None:
    weights = load_weights(DEFAULT)
    head = ("fire10", "fire11")
    backbone = {k: v for k, v in weights.arrays.items() if not k.startswith(head)}
    path = tmp_path / "backbone.npz"
    np.savez(path, **backbone)
    model = TrainableNetwork(weights.profile)
    fresh = start_from(model, path)
    assert {name.split("_")[0] for name in fresh} == {"fire10", "fire11", "conv12"}
    np.testing.assert_array_equal(
        model.unit("fire9_expand3x3").conv.weight.detach().numpy(),
        weights.arrays["fire9_expand3x3_w"],
    )


def test_start_from_a_network_checks_its_profile(tmp_path: Path) -> None:
    weights = load_weights(DEFAULT)
    model = TrainableNetwork(weights.profile)
    assert start_from(model, DEFAULT) == []
    other = weights.profile.output.model_copy(update={"classes": ("a", "b", "c")})
    renamed = TrainableNetwork(weights.profile.model_copy(update={"output": other}))
    assert start_from(renamed, DEFAULT) == ["conv12"]
    shifted = TrainableNetwork(weights.profile.model_copy(update={"padding": "same_upper"}))
    with pytest.raises(WeightsError, match=r"network\.padding=symmetric"):
        start_from(shifted, DEFAULT)
    with pytest.raises(WeightsError, match="no such weights file"):
        start_from(model, tmp_path / "missing.npz")


def test_saved_weights_can_be_loaded(tmp_path: Path) -> None:
    weights = load_weights(DEFAULT)
    path = tmp_path / "mine.npz"
    save_weights(weights, path)
    back = load_weights(path)
    assert back.profile == weights.profile
    np.testing.assert_array_equal(back.arrays["conv12_b"], weights.arrays["conv12_b"])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["mine.json", "mine.npz"]


@pytest.mark.parametrize("share", [0.5, 0.25])
def test_dropout_zeroes_a_share_and_keeps_the_mean(share: float) -> None:
    torch.manual_seed(3)
    x = torch.ones(3, 7, 41, 51, requires_grad=True)  # not a multiple of eight values
    dropped = _drop(x, share)
    assert set(dropped.unique().tolist()) == {0.0, np.float32(1 / (1 - share)).item()}
    for axis in range(4):  # dropout affects every channel, row and column
        kept = (dropped != 0).float().mean(dim=[d for d in range(4) if d != axis])
        assert kept.sub(1 - share).abs().max() < 0.06
    dropped.sum().backward()
    torch.testing.assert_close(x.grad, dropped.detach())
    assert not torch.equal(_drop(x, share), dropped)
