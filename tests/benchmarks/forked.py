"""Programs that start fast, as copies of a process that has already imported all modules.

`start` takes a tenth of the time of a new Python. Only the network is replaced: a fake finds one
car in each picture, without delay.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import pkgutil
import signal
import sys
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from unittest import mock

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.benchmarks.forked_imports"])
NETWORKS = ("app.files", "app.session", "fleet.worker")  # modules that open one


def import_all() -> None:
    """Import all modules of the program, except those that this machine cannot import."""
    for package in ("engines", "kernels", "pipeline"):
        root = importlib.import_module(f"squeezedrive.{package}")
        for module in pkgutil.walk_packages(root.__path__, f"{root.__name__}."):
            if module.name.endswith("__main__"):
                continue
            try:
                importlib.import_module(module.name)
            except ImportError:  # for example without GPU or Ray
                continue


def start(verb: bool, arguments: list[str], log: Path) -> ForkServerProcess:
    """Start `run_pipeline.py`, or `python -m engines` for a verb; messages go to `log`."""
    process = FORKS.Process(target=_run, args=(verb, arguments, str(log)))
    process.start()
    return process


def _run(verb: bool, arguments: list[str], log: str) -> None:
    from squeezedrive.engines.__main__ import main as run_verb
    from squeezedrive.pipeline.app.command_line import main as run_pipeline
    from tests.support.fakes import FakeBackend

    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the fork server ignores it
    for name in NETWORKS:
        module = importlib.import_module(f"squeezedrive.pipeline.{name}")
        mock.patch.object(module, "open_network", side_effect=lambda *_: FakeBackend()).start()
    sys.argv[0] = "run_pipeline.py"
    sys.exit((run_verb if verb else run_pipeline)(arguments))
