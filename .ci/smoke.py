"""Use the installed package as people do: import all of it, run both commands on a short video."""

import importlib
import pkgutil
import subprocess
import sys
import tempfile
from pathlib import Path

import squeezedrive

FOLDER = Path(squeezedrive.__path__[0])
# Of extras, imported by modules that nothing else imports.
EXTRAS = {"matplotlib", "pyarrow", "torch"}
SCRIPTS = Path(sys.executable).parent


def import_everything() -> int:
    """Import every module that is there without an extra; return how many."""
    count = 0
    for module in pkgutil.walk_packages([str(FOLDER)], "squeezedrive."):
        try:
            importlib.import_module(module.name)
            count += 1
        except ModuleNotFoundError as error:
            if error.name not in EXTRAS:
                raise
    return count


def command(name: str, *arguments: str) -> str:
    """Run a command of the package in a folder of its own; return its output."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [SCRIPTS / name, *arguments], cwd=folder, capture_output=True, text=True, timeout=300
        )
    if done.returncode != 0:
        sys.exit(f"{name} {' '.join(arguments)}: exit status {done.returncode}\n{done.stderr}")
    return done.stdout


def main() -> None:
    """Check the package that this Python has installed."""
    checkout = Path(__file__).resolve().parent.parent
    assert not FOLDER.is_relative_to(checkout), f"not the installed package: {FOLDER}"
    print(f"{import_everything()} modules imported")

    assert "examples:" in command("squeezedrive", "--help")
    assert "16,848 anchors" in command("squeezedrive-engines", "describe")
    run = ["-n", "20", "-o", "out.mp4", "--jsonl", "-", "-c", "profile"]
    lines = command("squeezedrive", "demo:", *run).splitlines()
    frames = sum(line.startswith('{"frame"') for line in lines)
    assert frames == 20, lines
    print(f"both commands, {frames} frames")

    results = sum(1 for _ in squeezedrive.detect("demo:", track=True, frames=20))
    assert results == 20, results
    print(f"the library, {results} frames")


if __name__ == "__main__":
    main()
