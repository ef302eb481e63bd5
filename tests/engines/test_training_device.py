"""The device of a training: several processes, number formats, and a GPU if there is one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs PyTorch: pip install -e '.[train]'")

import torch

from squeezedrive.engines.errors import UserError
from squeezedrive.engines.model.weights import DEFAULT, load_weights
from squeezedrive.engines.training.checkpoint import load_checkpoint
from squeezedrive.engines.training.config import load_train_config
from squeezedrive.engines.training.device import open_compute
from squeezedrive.engines.training.loop import train
from tests.support.rectangles import PLAIN, small, write_kitti

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_kitti(tmp_path_factory.mktemp("kitti") / "set", 4)


def settings(root: Path, **keys: Any) -> list[tuple[str, Any]]:
    plain = [(f"augment.{key}", value) for key, value in PLAIN.items()]
    return [*plain, *small(root, network__init=str(DEFAULT), **keys)]


def losses(folder: Path) -> list[float]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss/total"] for line in lines]


@pytest.mark.timeout(300)
def test_two_processes_learn_the_same_as_one(tmp_path: Path, root: Path) -> None:
    """Give each of two processes half the batch; the loss is a mean over all pictures."""
    chosen = settings(
        root, batch=4, epochs=2, ema=0, network__batch_norm=False, network__dropout=0,
        loss__kind="published", assign__method="published", optimizer__kind="sgd",
        optimizer__rate=0.01, optimizer__clip_by="variable", schedule__warmup=0, evaluate__every=2,
    )  # fmt: skip
    assert train(load_train_config(None, chosen), tmp_path / "one") == 0
    flags = [f"--set={key}={json.dumps(value)}" for key, value in [*chosen, ("batch", 2)]]
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        "-m", "engines", "train", "--out", str(tmp_path / "two"), *flags,
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "2 x CPU" in done.stderr
    assert done.stderr.count("epoch 2: mAP") == 1  # only the first process evaluates and writes
    # To resume exactly, each process needs its own random numbers for dropout.
    random = load_checkpoint(tmp_path / "two/checkpoint.pt", torch.device("cpu"))["random"]
    assert len(random) == 2
    assert not random[0]["cpu"].equal(random[1]["cpu"])
    one, two = (load_weights(tmp_path / f"{name}/{name}.npz") for name in ("one", "two"))
    start = load_weights(DEFAULT).arrays
    learned = []
    for name, array in one.arrays.items():
        np.testing.assert_allclose(two.arrays[name], array, rtol=1e-3, atol=1e-6)
        # conv12 starts from random weights. A bias may change by less than its rounding error.
        if not name.startswith("conv12") and name.endswith("_w"):
            learned.append(np.abs(array - start[name]).max())
    assert min(learned) > 0
    assert max(learned) > 1e-4
    assert two.profile.training["batch"] == one.profile.training["batch"] == 4


@pytest.mark.timeout(300)
def test_two_processes_end_together_when_patience_ends(tmp_path: Path, root: Path) -> None:
    chosen = [
        *settings(root, epochs=4, optimizer__rate=1e-9, evaluate__every=1, evaluate__patience=1),
        ("network.init", None),
    ]
    flags = [f"--set={key}={json.dumps(value)}" for key, value in chosen]
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        "-m", "engines", "train", "--out", str(tmp_path / "two"), *flags,
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("ended after epoch 2 of 4") == 1
    assert len(losses(tmp_path / "two")) == 2


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_trains_in_each_number_format_on_the_cpu(
    tmp_path: Path, root: Path, precision: str
) -> None:
    chosen = load_train_config(None, settings(root, epochs=1, precision=precision))
    with open_compute(chosen) as compute:
        assert (compute.precision, compute.device.type) == (precision, "cpu")
        product = torch.ones(2, 2)
        with compute.autocast():
            product = product @ product
    assert product.dtype == (torch.float32 if precision == "fp32" else torch.bfloat16)
    assert train(chosen, tmp_path / "run") == 0
    (loss,) = losses(tmp_path / "run")
    assert 0.1 < loss < 20
    assert load_weights(tmp_path / "run/run.npz").arrays["conv12_w"].dtype == np.float32


@pytest.mark.parametrize(
    ("gpu", "has_bf16", "expected"),
    [(True, True, "bf16"), (True, False, "fp16"), (False, True, "bf16"), (False, False, "fp32")],
)
def test_chooses_the_fastest_number_format(
    root: Path, monkeypatch: pytest.MonkeyPatch, gpu: bool, has_bf16: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": has_bf16})
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    device = "cuda" if gpu else "cpu"
    with open_compute(
        load_train_config(None, settings(root, device=device, precision="auto"))
    ) as compute:
        assert (compute.precision, compute.device.type) == (expected, device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has an NVIDIA GPU")
@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"device": "cuda"}, "device cuda: PyTorch finds no NVIDIA GPU here .* device=cpu"),
        ({"precision": "fp16"}, "precision fp16 needs a GPU; on the CPU use fp32 or bf16"),
    ],
)
def test_rejects_settings_that_need_a_gpu(root: Path, keys: dict[str, Any], message: str) -> None:
    chosen = load_train_config(None, settings(root, **keys))
    with pytest.raises(UserError, match=message), open_compute(chosen):
        pass


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU and CUDA's PyTorch")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_trains_and_resumes_in_each_number_format_on_a_gpu(
    tmp_path: Path, root: Path, precision: str
) -> None:
    keys = {"device": "cuda", "precision": precision, "batch": 4, "ema": 0.9}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(load_train_config(None, settings(root, epochs=12, **keys)), whole) == 0
    assert losses(whole)[-1] < 0.8 * losses(whole)[0]
    assert train(load_train_config(None, settings(root, epochs=6, **keys)), parts) == 0
    assert (
        train(load_train_config(None, settings(root, epochs=12, **keys)), parts, resume=True) == 0
    )
    assert len(losses(parts)) == 12
    assert losses(parts)[-1] < 0.9 * losses(parts)[0]
    assert json.loads((whole / "versions.json").read_text())["cuda"] == torch.version.cuda
