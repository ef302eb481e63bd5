"""Find cars, cyclists and pedestrians in road video: `python -m squeezedrive`."""

from __future__ import annotations

from typing import NoReturn

from squeezedrive.engines.program import run_program


def program() -> NoReturn:
    """Run the program."""
    run_program(_main)


def _main() -> int:
    from squeezedrive.pipeline.app.command_line import main

    return main()


if __name__ == "__main__":
    program()
