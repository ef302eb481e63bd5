import pytest

from squeezedrive.engines.errors import NetworkError
from squeezedrive.engines.model.describe import describe
from squeezedrive.engines.model.network import (
    NETWORKS,
    SQUEEZEDET,
    SQUEEZEDET_PLUS,
    Network,
    Padding,
    operations,
    output_grid,
    pads,
)
from squeezedrive.engines.model.weights import DEFAULT, load_weights
from squeezedrive.kernels.head import Grid
from tests.support.plus import plus_profile

# Layer, output channels, grid, parameters: the table of the paper at 1248x384, recomputed.
PAPER = {
    "conv1": (64, (624, 192), 1_792),
    "pool1": (64, (312, 96), 0),
    "fire2": (128, (312, 96), 11_408),
    "fire3": (128, (312, 96), 12_432),
    "pool3": (128, (156, 48), 0),
    "fire4": (256, (156, 48), 45_344),
    "fire5": (256, (156, 48), 49_440),
    "pool5": (256, (78, 24), 0),
    "fire6": (384, (78, 24), 104_880),
    "fire7": (384, (78, 24), 111_024),
    "fire8": (512, (78, 24), 188_992),
    "fire9": (512, (78, 24), 197_184),
    "fire10": (768, (78, 24), 418_656),
    "fire11": (768, (78, 24), 443_232),
    "conv12": (72, (78, 24), 497_736),
}

# The same table for SqueezeDet+ at 1242x375, valid padding; grids: floor((n - kernel) / 2) + 1.
PAPER_PLUS = {
    "conv1": (96, (618, 185), 14_208),
    "pool1": (96, (308, 92), 0),
    "fire2": (128, (308, 92), 70_880),
    "fire3": (128, (308, 92), 73_952),
    "fire4": (256, (308, 92), 270_784),
    "pool4": (256, (153, 45), 0),
    "fire5": (256, (153, 45), 295_360),
    "fire6": (384, (153, 45), 627_360),
    "fire7": (384, (153, 45), 664_224),
    "fire8": (512, (153, 45), 1_131_392),
    "pool8": (512, (76, 22), 0),
    "fire9": (512, (76, 22), 1_180_544),
    "fire10": (512, (76, 22), 1_180_544),
    "fire11": (512, (76, 22), 1_180_544),
    "conv12": (72, (76, 22), 331_848),
}

BOTH = pytest.mark.parametrize(
    ("network", "size", "padding"),
    [(SQUEEZEDET, (1248, 384), "symmetric"), (SQUEEZEDET_PLUS, (1242, 375), "valid")],
    ids=["squeezedet", "squeezedet-plus"],
)


@BOTH
def test_layers_match_the_paper(network: Network, size: tuple[int, int], padding: Padding) -> None:
    steps = operations(network, 72, *size, padding)
    found = {
        layer: (
            [step for step in steps if step.layer == layer][-1].out_channels,
            [step for step in steps if step.layer == layer][-1].out_size,
            sum(step.parameters for step in steps if step.layer == layer),
        )
        for layer in dict.fromkeys(step.layer for step in steps)
    }
    assert found == (PAPER_PLUS if network is SQUEEZEDET_PLUS else PAPER)


@BOTH
def test_totals_match_the_paper(network: Network, size: tuple[int, int], padding: Padding) -> None:
    steps = operations(network, 72, *size, padding)
    parameters, gflop = (7_021_640, 77.07) if network is SQUEEZEDET_PLUS else (2_082_120, 10.57)
    assert sum(step.parameters for step in steps) == parameters
    assert round(2 * sum(step.macs for step in steps) / 1e9, 2) == gflop


@BOTH
def test_every_operation_reads_the_output_of_an_earlier_one(
    network: Network, size: tuple[int, int], padding: Padding
) -> None:
    written = {"image": (3, size)}
    for step in operations(network, 72, *size, padding):
        channels = sum(written[name][0] for name in step.inputs)
        assert channels == step.in_channels
        assert {written[name][1] for name in step.inputs} == {step.in_size}
        written[step.name] = (step.out_channels, step.out_size)


@pytest.mark.parametrize(
    ("padding", "kernel", "stride", "even", "odd"),
    [
        ("symmetric", 3, 2, (1, 1), (1, 1)),
        ("symmetric", 7, 2, (3, 3), (3, 3)),
        ("same_upper", 3, 2, (0, 1), (1, 1)),
        ("same_upper", 7, 2, (2, 3), (3, 3)),
        ("valid", 3, 2, (0, 0), (0, 0)),
        ("valid", 7, 2, (0, 0), (0, 0)),
        *[(kind, 3, 1, (1, 1), (1, 1)) for kind in ("symmetric", "same_upper", "valid")],
        *[(kind, 1, 1, (0, 0), (0, 0)) for kind in ("symmetric", "same_upper", "valid")],
    ],
)
def test_pads_of_even_and_odd_sizes(
    padding: Padding, kernel: int, stride: int, even: tuple[int, int], odd: tuple[int, int]
) -> None:
    assert pads(20, kernel, stride, padding) == even
    assert pads(21, kernel, stride, padding) == odd


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("padding", ["symmetric", "same_upper"])
def test_padded_networks_have_a_cell_for_each_sixteen_pixels(name: str, padding: Padding) -> None:
    for width, height in ((1248, 384), (16, 32), (624, 720)):
        grid = output_grid(operations(NETWORKS[name], 72, width, height, padding))
        assert grid == Grid(width, height, width // 16, height // 16, stride=16, first=8)


@pytest.mark.parametrize(
    ("network", "size", "cells", "first"),
    [
        (SQUEEZEDET_PLUS, (1242, 375), (76, 22), 17),
        (SQUEEZEDET_PLUS, (1248, 384), (76, 22), 17),
        (SQUEEZEDET_PLUS, (50, 51), (1, 2), 17),
        (SQUEEZEDET_PLUS, (35, 35), (1, 1), 17),
        (SQUEEZEDET, (1248, 384), (77, 23), 15),
        (SQUEEZEDET, (31, 47), (1, 2), 15),
    ],
)
def test_valid_padding_leaves_a_margin_around_the_grid(
    network: Network, size: tuple[int, int], cells: tuple[int, int], first: float
) -> None:
    grid = output_grid(operations(network, 72, *size, "valid"))
    assert grid == Grid(*size, *cells, stride=16, first=first)
    # The pixels that reach the cells through strided operations lie inside the input.
    for pixels, count in zip(size, cells, strict=True):
        margin = pixels - (2 * first + 1 + 16 * (count - 1))
        assert 0 <= margin < 16


@pytest.mark.parametrize(
    ("network", "size", "padding", "message"),
    [
        (SQUEEZEDET, (1250, 384), "symmetric", "multiples of 16 pixels .* got 1250x384"),
        (SQUEEZEDET_PLUS, (1242, 375), "same_upper", "multiples of 16 .* padding same_upper"),
        (SQUEEZEDET, (0, 384), "same_upper", "multiples of 16"),
        (SQUEEZEDET_PLUS, (34, 375), "valid", "at least 35x35 pixels for squeezedet-plus"),
        (SQUEEZEDET, (64, 30), "valid", "at least 31x31 pixels for squeezedet with"),
    ],
)
def test_rejects_sizes_that_a_network_cannot_read(
    network: Network, size: tuple[int, int], padding: Padding, message: str
) -> None:
    with pytest.raises(NetworkError, match=message):
        operations(network, 72, *size, padding)


def test_describe_prints_the_totals_and_the_licence() -> None:
    text = describe(load_weights(DEFAULT).profile, 1248, 384)
    assert "2,082,120" in text
    assert "10.57" in text
    assert "16,848 anchors" in text
    assert "CC BY-NC-SA" in text


def test_describe_scales_with_the_input() -> None:
    text = describe(load_weights(DEFAULT).profile, 624, 192)
    assert "39x12" in text
    assert "2.64" in text  # a quarter of the operations


def test_describe_needs_no_weights() -> None:
    text = describe(plus_profile(), 1242, 375)
    assert "7,021,640  77.07" in text
    assert "15,048 anchors of 9 shapes" in text
    assert "output by_kind; padding valid; centres even" in text


@pytest.mark.parametrize("size", [(16 * 1000, 96), (96, 2**40)])
def test_an_input_that_would_fill_the_memory_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(NetworkError, match="expected an input of at most 8192x8192 pixels, got "):
        SQUEEZEDET.check_size(*size, "symmetric")
