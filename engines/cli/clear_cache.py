"""`python -m engines clear-cache`: remove the TensorRT engines in the cache."""

from __future__ import annotations

import argparse

from squeezedrive.engines.cli.engine_cache import mib, open_cache

DESCRIPTION = "Remove the TensorRT engines in the cache and TensorRT's measurements for them."
EXAMPLES = """\
examples:
  python -m engines clear-cache
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add no options, because the verb has none."""


def run(_: argparse.Namespace) -> None:
    """Remove the files in the cache and print their names."""
    cache = open_cache()
    removed, freed = cache.clear()
    for path in sorted(removed):
        if path.suffix == ".engine":
            print(f"removed {path.name}")
    print(f"removed {len(removed)} files from {cache.folder}, {mib(freed)}")
