"""Run the network once in the back end of `auto`; a program, as libraries may end the process.

It prints the back end, runtime, device, precision and reason, one a line.
"""

from __future__ import annotations

import sys

from squeezedrive.engines.errors import UserError


def run_once() -> list[str]:
    """Load the network that comes with the program, run it on a grey picture, and close it."""
    import numpy as np

    from squeezedrive.engines.backends.base import EngineSettings
    from squeezedrive.engines.backends.select import open_backend
    from squeezedrive.engines.model.weights import DEFAULT, int8_model, load_weights
    from squeezedrive.kernels.params import DetectParams

    weights = load_weights(DEFAULT)
    width, height = weights.profile.input.size
    settings = EngineSettings(weights, width, height, DetectParams(), int8=int8_model(DEFAULT))
    backend = open_backend("auto", settings)
    slot = backend.new_slot()
    slot.preprocess([np.full((height, width, 3), 128, np.uint8)])
    slot.infer()
    slot.detect()
    slot.close()
    backend.close()
    info = backend.info
    return [info.name, info.runtime, info.device, info.precision, info.reason]


if __name__ == "__main__":
    try:
        print("\n".join(run_once()))
    except UserError as error:
        sys.exit(str(error))
