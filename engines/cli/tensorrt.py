"""`python -m engines build`, `inspect` and `clear-cache`: the TensorRT engines of this machine."""

from __future__ import annotations

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from squeezedrive.engines.cli.arguments import count, input_size
from squeezedrive.engines.errors import BackendUnavailable, UserError

if TYPE_CHECKING:
    from squeezedrive.engines.backends.tensorrt.cache import EngineCache, Entry

EXAMPLES = """\
examples:
  python -m engines build                                # what `--backend tensorrt` will ask for
  python -m engines build --size 1248x704 --precision int8 --batch 4
  python -m engines inspect                              # what is in the cache
  python -m engines inspect fp16-1248x384                # the layers of an engine
  python -m engines clear-cache
"""


def add_tensorrt_parsers(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verbs and their options to those of `python -m engines`."""
    build, inspect, _ = (
        verbs.add_parser(
            name,
            help=short,
            description=text,
            epilog=EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for name, short, text in (
            (
                "build",
                "build a TensorRT engine for this GPU",
                "Build a TensorRT engine for this GPU and keep it, so that the first run with it"
                " does not have to.",
            ),
            (
                "inspect",
                "show the TensorRT engines in the cache",
                "Show the TensorRT engines in the cache, or the layers of one of them.",
            ),
            (
                "clear-cache",
                "remove the TensorRT engines in the cache",
                "Remove the TensorRT engines in the cache and what TensorRT measured for them.",
            ),
        )
    )
    add = build.add_argument
    add("--weights", type=Path, metavar="FILE.npz", help="default: the project's own")
    add("--size", type=input_size, metavar="WxH", help="input in pixels; default: as trained")
    add("--precision", choices=("fp16", "fp32", "int8"), default="fp16", help="default: fp16")
    add(
        "--batch", type=count, default=8, metavar="N",
        help="most pictures at a time (default: 8); fewer can be run, too",
    )  # fmt: skip
    inspect.add_argument(
        "engine", nargs="?", metavar="ENGINE", help="(start of) an engine's name: show its layers"
    )


def run_build(arguments: argparse.Namespace) -> None:
    """Build an engine, or find that it is there."""
    _check_machine()
    from squeezedrive.engines.backends.base import EngineSettings
    from squeezedrive.engines.backends.tensorrt.driver import first_gpu
    from squeezedrive.engines.backends.tensorrt.executor import open_engine
    from squeezedrive.engines.model.weights import DEFAULT, int8_model, load_weights
    from squeezedrive.kernels.params import DetectParams

    path = arguments.weights or DEFAULT
    weights = load_weights(path)
    width, height = arguments.size or (weights.profile.input.width, weights.profile.input.height)
    settings = EngineSettings(weights, width, height, DetectParams(), int8=int8_model(path))
    gpu = first_gpu()
    executor = open_engine(settings, arguments.precision, arguments.batch, gpu, _say)
    executor.close()
    print(f"ready: {executor.precision} in {executor.runtime} on {gpu.name}")


def run_inspect(arguments: argparse.Namespace) -> None:
    """Print what is in the cache, or the layers of an engine."""
    cache = _open_cache()
    entries = cache.entries()
    if arguments.engine is not None:
        print(_layers(_choose(arguments.engine, entries)))
        return
    for entry in entries:
        print(_describe(entry))
    total = sum(entry.size for entry in entries)
    size = f"{_mib(total)} of at most {_mib(cache.limit)}"
    print(f"engines in {cache.folder}: {len(entries)}, {size}")


def run_clear_cache(arguments: argparse.Namespace) -> None:
    """Remove what is in the cache, and say what it was."""
    cache = _open_cache()
    removed, freed = cache.clear()
    for path in sorted(removed):
        if path.suffix == ".engine":
            print(f"removed {path.name}")
    print(f"removed {len(removed)} files from {cache.folder}, {_mib(freed)}")


def _check_machine() -> None:
    from squeezedrive.engines.backends.tensorrt.entry import tensorrt_obstacles

    if found := tensorrt_obstacles():
        raise BackendUnavailable("TensorRT cannot run here: " + "; ".join(found))


def _open_cache() -> EngineCache:
    from squeezedrive.engines.backends.tensorrt.cache import open_user_cache

    return open_user_cache(_say)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _choose(start: str, entries: list[Entry]) -> Entry:
    chosen = [entry for entry in entries if entry.path.name.startswith(start)]
    if len(chosen) != 1:
        names = ", ".join(entry.path.name for entry in chosen or entries) or "none"
        raise UserError(f"expected how one engine's name starts, got {start!r}; there are: {names}")
    return chosen[0]


def _describe(entry: Entry) -> str:
    fields = "".join(f"\n  {name:<19} {value}" for name, value in entry.fields.items())
    return (
        f"{entry.path}\n  {_mib(entry.size)}, last used {_age(entry.idle)} ago"
        f"{fields or chr(10) + '  its key cannot be read; it is not used'}"
    )


def _layers(entry: Entry) -> str:
    """Load an engine and let TensorRT's inspector say what became of each layer."""
    _check_machine()
    from squeezedrive.engines.backends.tensorrt.cache import EngineKey
    from squeezedrive.engines.backends.tensorrt.executor import TensorRTExecutor

    trt = import_module("tensorrt")
    try:
        plan = _open_cache().load(EngineKey(**entry.fields))
    except TypeError:
        plan = None
    if plan is None:
        raise UserError(f"{entry.path}: is damaged; python -m engines clear-cache removes it")
    executor = TensorRTExecutor(trt, plan, entry.fields["precision"])
    text = executor.layers()
    executor.close()
    return describe_layers(text)


def describe_layers(text: str) -> str:
    """Return a line for each layer in the inspector's JSON: kind, name, formats in and out.

    Parameters
    ----------
    text : str
        {"Layers": [...]} as TensorRT writes it: with "Format/Datatype" of each tensor in version
        10, with "Datatype" and "Format" later; a layer is only a name where an engine was built
        without details.
    """

    def formats(tensors: list[dict[str, Any]]) -> str:
        kinds = [
            tensor.get("Format/Datatype") or f"{tensor.get('Datatype')} {tensor.get('Format', '')}"
            for tensor in tensors
        ]
        return ", ".join(kind.strip().rstrip(".") for kind in kinds) or "nothing"

    lines = []
    for layer in json.loads(text)["Layers"]:
        if isinstance(layer, str):
            lines.append(layer)
            continue
        ends = " -> ".join(formats(layer.get(end, [])) for end in ("Inputs", "Outputs"))
        lines.append(f"{layer.get('LayerType', '?'):<16} {layer['Name']}: {ends}")
    return "\n".join(lines)


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"


def _age(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"
