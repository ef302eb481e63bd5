"""The kinds of outputs there are: a module of this package that defines `SPEC` adds one.

Every module of `pipeline.sinks` and `pipeline.sinks.files` is imported for the help of the command
line, so none of them imports a large package at once: NumPy, OpenCV and PyAV wait for `open`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from squeezedrive.pipeline import sinks
from squeezedrive.pipeline.core.sink import Sink
from squeezedrive.pipeline.sinks import files
from squeezedrive.pipeline.sinks.spec import SinkContext, SinkSpec

if TYPE_CHECKING:
    from squeezedrive.pipeline.config import Config
    from squeezedrive.pipeline.core.source import Source


def sink_specs() -> list[SinkSpec]:
    """Find all kinds of outputs, in the order of the help."""
    return [*_specs_in(sinks), *file_specs()]


def file_specs() -> list[SinkSpec]:
    """Find the kinds of outputs that need no pictures, in the order of the help."""
    return _specs_in(files)


def _specs_in(package: ModuleType) -> list[SinkSpec]:
    specs = []
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if not module.ispkg:
            spec = vars(importlib.import_module(module.name)).get("SPEC")
            specs += [spec] if isinstance(spec, SinkSpec) else []
    return specs


def open_sinks(
    paths: Mapping[str, Path],
    source: Source,
    class_names: Sequence[str],
    config: Config,
    header: Callable[[], Mapping[str, Any]],
    share: float = 1.0,
) -> list[Sink]:
    """Return the sinks of one source, in the order in which they are to be written.

    `paths` names each output by its option, as `plan_outputs` does; `share` is the part of
    `record.keep` that this source may take. For the rest see `SinkContext`.
    """
    split = None
    if config.record.segment is not None or config.record.events:
        from squeezedrive.pipeline.sinks.recordings.parts import open_split

        split = open_split(config.record, source, class_names, paths, share)
    opened = [
        spec.open(SinkContext(paths[spec.option], source, class_names, config, header, split))
        for spec in sink_specs()
        if spec.is_written(paths, config)
    ]
    # First what leaves nothing behind: without a display nothing is written. Last what encodes
    # pictures: what is quick does not wait for it.
    return sorted(opened, key=lambda sink: (not sink.is_display, sink.draws))
