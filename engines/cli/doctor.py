"""`python -m engines doctor`: report what is installed, what works, and what to do."""

from __future__ import annotations

import argparse

from squeezedrive.engines.doctor.finding import Observation

DESCRIPTION = """\
Report what this computer has for SqueezeDrive, what works, and how to mend the rest. The exit
status is 0 if the network runs in the back end that `--backend auto` chooses, else 1. If this is
TensorRT, the first call takes a minute, because it builds the engine that a run would build."""
EXAMPLES = """\
examples:
  python -m engines doctor
"""
TRIAL = "squeezedrive.engines.doctor.trial"
PATIENCE = 600.0  # seconds: TensorRT may have to build an engine on a small computer


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add no options, because the verb has none."""


def run(_: argparse.Namespace) -> int:
    """Print a line for each observation; return 0 if the network runs, else 1."""
    from squeezedrive.engines.doctor.computer import examine_computer
    from squeezedrive.engines.doctor.gpu import examine_gpu

    print("This computer")
    _show(examine_computer())
    print("For an NVIDIA GPU, which is optional")
    _show(examine_gpu())
    print("The network, run once in the back end that auto chooses", flush=True)
    trial = try_network()
    _show([trial])
    return 0 if trial.state == "ok" else 1


def try_network() -> Observation:
    """Run the network once, in a separate process."""
    from squeezedrive.engines.doctor.finding import ask

    answer = ask("-m", TRIAL, seconds=PATIENCE)
    lines = answer.text.splitlines()[-5:]
    if answer.failed or len(lines) < 5:
        remedy = "mend the problems above, from the top; --backend cpu needs no GPU"
        return Observation("back end", "problem", answer.text, remedy)
    name, runtime, device, precision, reason = lines
    return Observation("back end", "ok", f"{name} {precision}, {runtime}, {device} ({reason})")


def _show(findings: list[Observation]) -> None:
    for finding in findings:
        print(f"  {finding.name:<16} {finding.state:<8} {finding.text}")
        if finding.remedy:
            print(f"{'':<28}to do: {finding.remedy}")
