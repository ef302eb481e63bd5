"""The speed of the forms of the int8 graph on this processor.

    python -m tests.benchmarks.int8_graph [--weights NAME.npz] [--rounds 30]
    ONEDNN_MAX_CPU_ISA=AVX2 python -m tests.benchmarks.int8_graph    # as an older processor

The forms run in turn in one thread; the figures are milliseconds of the network alone. See
`engines.backends.cpu.graph`. ONEDNN_MAX_CPU_ISA in the second command limits the instructions that
OpenVINO uses: AVX512_CORE_VNNI, AVX2_VNNI, AVX2.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import openvino as ov

from squeezedrive.engines.backends.cpu.graph import for_processor, unsigned
from squeezedrive.engines.backends.cpu.openvino import compile_model, core, take_bytes
from squeezedrive.engines.model.onnx_graph import load_onnx
from squeezedrive.engines.model.weights import DEFAULT, int8_model, load_weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=DEFAULT)
    parser.add_argument("--rounds", type=int, default=30)
    arguments = parser.parse_args()
    weights = load_weights(arguments.weights)
    pixels = weights.profile.input
    width, height = pixels.size
    model = load_onnx(int8_model(arguments.weights), weights, width, height)
    forms = {
        "as written, bytes made unsigned": unsigned(model),
        "bytes in": for_processor(model, pixels, amx=False),
        "bytes in, merged expansions": for_processor(model, pixels, amx=True),
    }
    image = np.random.default_rng(0).integers(0, 256, (1, height, width, 3)).astype(np.uint8)
    options = {
        "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1,
    }  # fmt: skip
    requests = {}
    for name, graph in forms.items():
        read = core().read_model(graph.SerializeToString())
        if read.input().element_type != ov.Type.u8:
            read = take_bytes(read, pixels.channels)
        request = compile_model(read, options).create_infer_request()
        request.set_input_tensor(ov.Tensor(image))
        requests[name] = request
    times: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(arguments.rounds):
        for name, request in requests.items():
            request.infer()
            start = time.perf_counter()
            request.infer()
            times[name].append(1000 * (time.perf_counter() - start))
    first = statistics.median(next(iter(times.values())))
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:50s} {median:7.2f} ms, {median / first:.2f}")


if __name__ == "__main__":
    main()
