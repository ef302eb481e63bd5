"""Command-line options that several verbs share, and the parsing of their values.

A function that reads a value raises ArgumentTypeError if the text is not valid.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def input_size(text: str) -> tuple[int, int]:
    """Read "WIDTHxHEIGHT", the size of the network's input in pixels."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT, got {text!r}")
    return int(width), int(height)


def names(text: str) -> list[str]:
    """Read "car,pedestrian"."""
    return [name.strip() for name in text.split(",") if name.strip()]


def aliases(text: str) -> dict[str, str]:
    """Read "person=pedestrian,truck=dontcare": names in a data set and their classes."""
    pairs = [pair.partition("=") for pair in names(text)]
    if not all(theirs.strip() and ours.strip() for theirs, _, ours in pairs):
        raise argparse.ArgumentTypeError(f"expected NAME=CLASS,NAME=CLASS, got {text!r}")
    return {theirs.strip(): ours.strip() for theirs, _, ours in pairs}


def fraction(text: str) -> float:
    """Read a number 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number 0 to 1, got {text!r}")
    return value


def count(text: str) -> int:
    """Read a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {text!r}")
    return int(text)


def add_network_options(options: argparse._ActionsContainer) -> None:
    """Add --weights and --size, which choose the network."""
    options.add_argument(
        "--weights", type=Path, metavar="FILE.npz", help="default: the project's own"
    )
    options.add_argument(
        "--size", type=input_size, metavar="WxH", help="input in pixels; default: as trained"
    )


def add_fit_options(options: argparse._ActionsContainer) -> None:
    """Add --fit and --band-centre: how pictures are put into the input; see `use_trained_fit`."""
    options.add_argument(
        "--fit", choices=("band", "letterbox", "stretch"),
        help="how pictures of another aspect ratio are put into the input (default: as trained if"
        " the weights' profile says so, else band)",
    )  # fmt: skip
    options.add_argument(
        "--band-centre", type=fraction, metavar="Y",
        help="middle of the band, as a fraction of the height from the top (default: as trained if"
        " the weights' profile says so, else 0.5)",
    )  # fmt: skip


def use_trained_fit(arguments: argparse.Namespace) -> None:
    """Set the fit to that of the training, unless the user chose one.

    Raises
    ------
    WeightsError
        If the weights' profile cannot be read.
    """
    from squeezedrive.engines.model.weights import DEFAULT, load_profile, profile_path

    profile = load_profile(profile_path(arguments.weights or DEFAULT))
    if arguments.fit is None:
        arguments.fit = profile.fit or "band"
    if arguments.band_centre is None:
        arguments.band_centre = 0.5 if profile.band_centre is None else profile.band_centre


def add_class_options(options: argparse._ActionsContainer) -> None:
    """Add --classes and --names, which choose objects in a data set."""
    options.add_argument(
        "--classes", type=names, metavar="A,B",
        help="only these classes (default: all classes of the weights)",
    )  # fmt: skip
    options.add_argument(
        "--names", type=aliases, default={}, metavar="A=B",
        help="names in the data set and the classes that they stand for, or dontcare, for example"
        " person=pedestrian,van=dontcare",
    )  # fmt: skip
