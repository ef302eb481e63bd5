from engines.describe import describe
from engines.network import SQUEEZEDET, operations
from engines.weights import DEFAULT, load_weights

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


def test_layers_are_those_of_the_paper() -> None:
    steps = operations(SQUEEZEDET, 72, 1248, 384)
    found = {
        layer: (
            [step for step in steps if step.layer == layer][-1].out_channels,
            [step for step in steps if step.layer == layer][-1].out_size,
            sum(step.parameters for step in steps if step.layer == layer),
        )
        for layer in dict.fromkeys(step.layer for step in steps)
    }
    assert found == PAPER


def test_totals_are_those_of_the_paper() -> None:
    steps = operations(SQUEEZEDET, 72, 1248, 384)
    assert sum(step.parameters for step in steps) == 2_082_120
    assert round(2 * sum(step.macs for step in steps) / 1e9, 2) == 10.57


def test_every_operation_reads_what_an_earlier_one_wrote() -> None:
    written = {"image": (3, (1248, 384))}
    for step in operations(SQUEEZEDET, 72, 1248, 384):
        channels = sum(written[name][0] for name in step.inputs)
        assert channels == step.in_channels
        assert {written[name][1] for name in step.inputs} == {step.in_size}
        written[step.name] = (step.out_channels, step.out_size)


def test_describe_prints_the_totals_and_the_licence() -> None:
    text = describe(load_weights(DEFAULT), 1248, 384)
    assert "2,082,120" in text
    assert "10.57" in text
    assert "16,848 anchors" in text
    assert "CC BY-NC-SA" in text


def test_describe_scales_with_the_input() -> None:
    text = describe(load_weights(DEFAULT), 624, 192)
    assert "39x12" in text
    assert "2.64" in text  # a quarter of the operations
