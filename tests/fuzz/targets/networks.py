"""Damaged weights, profiles, quantised models, and weights of other programs."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any
from unittest import mock

import numpy as np
from hypothesis import strategies as st

from squeezedrive.engines.model.weights import DEFAULT, load_arrays
from tests.fuzz.case import Case, Content
from tests.fuzz.mutate import EDGES, LIMITS, Damaged, damaged, seeds
from tests.fuzz.targets.base import Target, seed_files
from tests.fuzz.targets.media import run_program
from tests.fuzz.targets.settings import run_verb
from tests.fuzz.values import json_bytes, odd_documents

NETWORK = """\
architecture: squeezedet
weights: w.npz
classes: [car, pedestrian, cyclist]
input: {width: 320, height: 96}
"""
BOMB = 3 << 30  # bytes after unpacking; packed, they take a thousandth of that


@cache
def _profile() -> Any:
    return json.loads(DEFAULT.with_suffix(".json").read_text())


@cache
def _archive() -> bytes:
    """Return weights that are all 0, because they compress to a thousandth of the size."""
    zeros = {name: np.zeros_like(array) for name, array in load_arrays(DEFAULT).items()}
    file = io.BytesIO()
    np.savez_compressed(file, **zeros)  # type: ignore[arg-type]
    return file.getvalue()


def _small(arrays: Mapping[str, np.ndarray], **options: bool) -> bytes:
    file = io.BytesIO()
    np.savez(file, **options, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


@cache
def _odd_archives() -> tuple[bytes, ...]:
    """Return archives that do not hold weights, although NumPy can read some of them."""
    whole = {"conv1_w": np.zeros((64, 3, 3, 3), np.float32), "conv1_b": np.zeros(64)}
    odd: list[np.ndarray] = [
        np.array("car"), np.array([b"car"]), np.array(None), np.array([{}, []], object),
        np.empty(0),
        np.array(1 + 2j), np.array("2020", "M8[s]"), np.zeros(3, "i4,f8"), np.array(3.0),
        np.zeros((3, 64, 3, 3), np.float16), np.full((64, 3, 3, 3), np.nan, np.float32),
        np.full((64, 3, 3, 3), 1e300), np.zeros((64, 3, 3, 3), bool), np.zeros((0,) * 30),
    ]  # fmt: skip
    files = [_small({**whole, "conv1_w": one}) for one in odd]
    files += [
        _small({}),
        _small({"../../x": odd[0]}),
        _small({"\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"): odd[8]}),
    ]
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as archive:
            archive.writestr(
                "conv1_w.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order'"
            )
            archive.writestr("readme.txt", "no array")
        files.append(file.getvalue())
    return tuple(files)


@cache
def _bomb() -> bytes:
    """Return an archive with an array of `BOMB` bytes, all 0."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "<f4", "fortran_order": False, "shape": (BOMB // 4,)}
    )
    file = io.BytesIO()
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("conv1_w.npy", "w", force_zip64=True) as member,
    ):
        member.write(head.getvalue())
        for _ in range(BOMB >> 24):
            member.write(bytes(1 << 24))
    return file.getvalue()


def weights() -> st.SearchStrategy[Case]:
    """Return a strategy for commands that read damaged weights and profiles."""
    archive, profile = _archive(), json.dumps(_profile()).encode()
    odd = _odd_archives()
    contents: st.SearchStrategy[Content] = st.one_of(
        damaged(archive, odd), st.sampled_from(odd), st.sampled_from(odd).flatmap(damaged)
    )
    profiles = st.one_of(odd_documents(_profile()).map(json_bytes), damaged(profile))
    files = st.one_of(
        contents.map(lambda content: {"w.npz": content, "w.json": profile}),
        profiles.map(lambda content: {"w.npz": archive, "w.json": content}),
        profiles.map(lambda content: {"w.npz": archive, "w.json": content}),
    )
    verbs = (
        ("describe", "--weights", "in/w.npz"),
        ("describe", "--weights", "in/w.npz"),
        ("export", "out/o.npz", "--weights", "in/w.npz"),
        ("import", "in/w.npz", "--layout", "authors", "--out", "out/o.npz"),
    )
    return st.builds(Case, st.sampled_from(verbs), files)


@cache
def _foreign() -> dict[str, bytes]:
    """Return weights of other programs by file ending, for each library that is installed."""
    arrays = {"conv1.weight": np.zeros((64, 3, 3, 3), np.float32), "conv1.bias": np.zeros(64)}
    found = {}
    try:
        import torch
    except ImportError:
        pass
    else:
        file = io.BytesIO()
        torch.save({f"base.features.0.{k[6:]}": torch.tensor(v) for k, v in arrays.items()}, file)
        found["pth"] = file.getvalue()
    try:
        import h5py
    except ImportError:
        pass
    else:
        file = io.BytesIO()
        with h5py.File(file, "w") as content:
            for name, array in arrays.items():
                kind = "kernel" if name.endswith("weight") else "bias"
                content[f"conv2d_1/conv2d_1/{kind}:0"] = array
        found["h5"] = file.getvalue()
    return found


def foreign() -> st.SearchStrategy[Case]:
    """Return a strategy for imports of damaged weights of other programs."""
    layouts = {"pth": "pytorch", "h5": "keras", "npz": "authors"}
    files = {**_foreign(), "npz": _odd_archives()[11]}
    return st.one_of(
        [
            damaged(content, tuple(files.values())).map(
                lambda content, ending=ending: Case(
                    ("import", f"in/w.{ending}", "--layout", layouts[ending], "--out", "out/o.npz"),
                    {f"w.{ending}": content},
                )
            )
            for ending, content in files.items()
        ]
    )


@cache
def _quantised() -> bytes:
    return DEFAULT.with_suffix(".int8.onnx").read_bytes()


@dataclass(frozen=True)
class DamagedGraph:
    """The quantised model with a changed graph."""

    seed: int

    def __bytes__(self) -> bytes:
        import onnx

        source = random.Random(self.seed)
        model = onnx.ModelProto()
        model.ParseFromString(_quantised())
        for _ in range(min(1 + int(source.expovariate(0.9)), 5)):
            source.choice(GRAPH_EDITS)(model, source)
        data: bytes = model.SerializeToString()
        return data


def _drop_node(model: Any, source: random.Random) -> None:
    if model.graph.node:
        del model.graph.node[source.randrange(len(model.graph.node))]


def _rename(model: Any, source: random.Random) -> None:
    nodes = [node for node in model.graph.node if node.input]
    if nodes:
        node = source.choice(nodes)
        names = [*node.input, *[one.output[0] for one in nodes], "", "x", "image"]
        node.input[source.randrange(len(node.input))] = source.choice(names)


def _other_kind(model: Any, source: random.Random) -> None:
    if model.graph.node:
        kinds = (
            "Relu",
            "Conv",
            "Concat",
            "MaxPool",
            "Softmax",
            "Loop",
            "Nothing",
            "QuantizeLinear",
        )
        source.choice(model.graph.node).op_type = source.choice(kinds)


def _attribute(model: Any, source: random.Random) -> None:
    nodes = [node for node in model.graph.node if node.attribute]
    if nodes:
        attribute = source.choice(source.choice(nodes).attribute)
        value = source.choice((*EDGES, *LIMITS[:5], -1))
        if attribute.ints and source.random() < 0.8:
            attribute.ints[source.randrange(len(attribute.ints))] = min(value, 2**63 - 1)
        elif source.random() < 0.5:
            attribute.i = min(value, 2**63 - 1)
        else:
            del attribute.ints[:]


def _constant(model: Any, source: random.Random) -> None:
    if not model.graph.initializer:
        return
    tensor = source.choice(model.graph.initializer)
    kind = source.randrange(6)
    if kind == 0 and tensor.dims:
        tensor.dims[source.randrange(len(tensor.dims))] = source.choice((*EDGES, 2**31, 2**62, -1))
    elif kind == 1:
        tensor.data_type = source.randint(0, 25)
    elif kind == 2:
        tensor.raw_data = bytes(
            Damaged(tensor.raw_data, (b"\0\0\xc0\x7f",), source.getrandbits(32))
        )
    elif kind == 3:
        tensor.name = source.choice(("", "x", model.graph.initializer[0].name))
    elif kind == 4:
        tensor.data_location = 1
        tensor.external_data.add(
            key="location", value=source.choice(("/etc/passwd", "../../x", "x"))
        )
    else:
        model.graph.initializer.remove(tensor)


def _value(model: Any, source: random.Random) -> None:
    values = [*model.graph.input, *model.graph.output]
    if not values:
        return
    value = source.choice(values)
    kind = source.randrange(4)
    dimensions = value.type.tensor_type.shape.dim
    if kind == 0 and dimensions:
        del dimensions[source.randrange(len(dimensions))]
    elif kind == 1:
        value.type.tensor_type.elem_type = source.randint(0, 20)
    elif kind == 2:
        value.name = source.choice(("", "x"))
    else:
        del (model.graph.input if source.random() < 0.5 else model.graph.output)[:]


def _metadata(model: Any, source: random.Random) -> None:
    kind = source.randrange(4)
    if kind == 0:
        model.ir_version = source.choice((*EDGES, 2**40))
    elif kind == 1 and model.opset_import:
        model.opset_import[0].version = source.choice((*EDGES, 2**40))
    elif kind == 2:
        del model.opset_import[:]
    elif model.metadata_props:
        del model.metadata_props[source.randrange(len(model.metadata_props))]


GRAPH_EDITS = (
    _drop_node, _rename, _other_kind, _attribute, _attribute, _constant, _constant, _value,
    _metadata,
)  # fmt: skip


def models() -> st.SearchStrategy[Case]:
    """Return a strategy for runs with a damaged int8 model."""
    profile = DEFAULT.with_suffix(".json").read_bytes()
    (picture,) = seed_files("alpha.png")
    files = {"n.yaml": NETWORK.encode(), "w.npz": b"cached", "w.json": profile, "a.png": picture}
    arguments = ("in/a.png", "--no-video", "--jsonl", "out/o.jsonl", "--set", "network=in/n.yaml")
    contents = st.one_of(seeds.map(DamagedGraph), seeds.map(DamagedGraph), damaged(_quantised()))
    return contents.map(lambda content: Case(arguments, {**files, "w.int8.onnx": content}))


@contextmanager
def with_own_weights() -> Iterator[None]:
    """Load the project's weights once, and use them for every network file."""
    from squeezedrive.engines.model.weights import load_weights
    from squeezedrive.pipeline.app import network

    own = load_weights(DEFAULT)
    with mock.patch.object(network, "load_weights", return_value=own):
        yield


TARGETS = {
    "weights": Target(weights, run_verb, 45, 20),
    "foreign": Target(foreign, run_verb, 35, 20),
    "onnx": Target(models, run_program, 5, 8, with_own_weights),
}
