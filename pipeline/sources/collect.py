"""Find the files that the user names by folders, patterns and lists."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from squeezedrive.engines.files import readable, without_hidden
from squeezedrive.pipeline.core.errors import SourceError
from squeezedrive.pipeline.sources.names import CAMERA, IMAGE_SUFFIXES, STDIN
from squeezedrive.pipeline.sources.pictures import find_pictures, natural_key, pictures_stem
from squeezedrive.pipeline.sources.pipe import is_pipe

# What cameras write and people convert it to. A file of another name is read if it is named.
VIDEO_SUFFIXES = frozenset(
    {
        ".3g2", ".3gp", ".264", ".265", ".asf", ".avi", ".dav", ".divx", ".dv", ".f4v", ".flv",
        ".h264", ".h265", ".hevc", ".ivf", ".m1v", ".m2t", ".m2ts", ".m2v", ".m4v", ".mjpeg",
        ".mjpg", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogm", ".ogv", ".ts",
        ".vob", ".webm", ".wmv", ".y4m",
    }
)  # fmt: skip
OUTPUT_MARK = ".detected."  # in the names of videos that the program wrote
TRACK_MARK = re.compile(r"\.track\d+$")  # at the end of `SourceFile.beside`, see `split_tracks`
_SYSTEM_FOLDERS = frozenset({"$RECYCLE.BIN", "System Volume Information"})


@dataclass(frozen=True)
class SourceFile:
    """A video file, a picture, or pictures that are one sequence.

    Attributes
    ----------
    spec : str
        What `open_source` opens.
    beside : Path
        Where outputs beside it lie, without their endings.
    place : Path
        Where outputs lie below an output folder, without their endings: a relative path, which no
        other file of the collection has.
    track : int or None
        Which of its video tracks, counted from 0; None for the one that players show.
    """

    spec: str
    beside: Path
    place: Path
    track: int | None = None


@dataclass(frozen=True)
class Collection:
    """The files of a run in the order in which they are read, and what was left out.

    Attributes
    ----------
    files : list of SourceFile
        One or more.
    notes : list of str
        A line on each kind of file that was left out and may be missed.
    """

    files: list[SourceFile]
    notes: list[str]


@dataclass
class _Found:
    spec: str
    path: Path  # of the file, or of the folder whose pictures are meant
    stem: Path  # beside which outputs lie
    below: Path | None = (
        None  # the folder that was named, if it was one, or what a pattern begins with
    )


@dataclass
class _Search:
    found: list[_Found] = field(default_factory=list)
    pictures: Counter[str] = field(default_factory=Counter)  # by what the user named
    outputs: Counter[str] = field(default_factory=Counter)


def is_recorded(spec: str) -> bool:
    """Return whether a source is files, by its name: no camera, stream, pipe, nor the demo."""
    live = CAMERA.fullmatch(spec) or "://" in spec or spec == STDIN
    return not (live or spec.startswith("demo:") or is_pipe(spec))


def collect(specs: Sequence[str]) -> Collection:
    """Find all files behind the names of sources.

    A folder stands for the videos in it and in all folders below, 2 before 10, or, if there are
    none, for its pictures as one sequence. A pattern stands for the videos it matches, and those in
    folders it matches, or else for the pictures it matches. Hidden files, links to folders and what
    the program wrote itself are left out. A file that is found twice counts once. A folder that
    cannot be read stands for itself: opening it fails with the reason.

    Parameters
    ----------
    specs : sequence of str
        Sources for which `is_recorded` is true.

    Raises
    ------
    SourceError
        If there is no such file, or a folder or pattern stands for nothing.
    """
    if "" in specs:
        raise SourceError("expected a source, got an empty name")
    search = _Search()
    missing = [spec for spec in specs if not os.path.lexists(spec) and not _is_pattern(spec)]
    if missing:
        more = f", and {len(missing) - 1} more of {len(specs)}" if len(missing) > 1 else ""
        raise SourceError(f"{readable(missing[0])}: no such file or folder{more}")
    for spec in specs:
        path = Path(spec)
        if path.is_dir() or not os.path.lexists(spec):
            _search(spec, path, search)
        else:
            search.found.append(_Found(spec, path, path.with_suffix("")))
    first: dict[str, _Found] = {}
    for one in search.found:
        first.setdefault(os.path.abspath(one.spec), one)
    found = _without_outputs(list(first.values()), search.outputs)
    if not found:
        raise SourceError(
            f"{readable(specs[0])}: holds nothing but what this program wrote ({OUTPUT_MARK}mp4)"
        )
    notes = [
        f"{readable(spec)}: pictures left out: {count}; a pattern such as '*.jpg' reads them"
        for spec, count in search.pictures.items()
    ]
    notes += [
        f"{readable(spec)}: videos left out, as this program wrote them: {count}"
        for spec, count in search.outputs.items()
    ]
    folders = {os.path.abspath(one.below) for one in search.found if one.below is not None}
    places = _places(found, several_folders=len(folders) > 1)
    stems = Counter(os.path.abspath(one.stem) for one in found)
    files = [
        # Of front.mp4 and front.ts, each has its outputs under its whole name.
        SourceFile(one.spec, one.path if stems[os.path.abspath(one.stem)] > 1 else one.stem, place)
        for one, place in zip(found, places, strict=True)
    ]
    return Collection(files, notes)


def split_tracks(
    files: Sequence[SourceFile], count_tracks: Callable[[str], int]
) -> list[SourceFile]:
    """Return one file a video track: drive.track0, drive.track1 in place of drive.

    `count_tracks` is called with the name of each file, `tracks.count_tracks`. Where there is one
    track, or none that can be read, the file stays as it is.
    """
    split = []
    for file in files:
        tracks = range(count_tracks(file.spec))
        if len(tracks) < 2:
            split.append(file)
        for track in tracks if len(tracks) > 1 else ():
            beside, place = (
                path.with_name(f"{path.name}.track{track}") for path in (file.beside, file.place)
            )
            split.append(SourceFile(file.spec, beside, place, track))
    return split


def _is_pattern(spec: str) -> bool:
    return any(character in spec for character in "*?[")


def _search(spec: str, path: Path, search: _Search) -> None:
    """Add the files that a folder or a pattern stands for."""
    is_folder = path.is_dir()
    below = path if is_folder else _fixed_part(spec)
    videos, pictures, outputs = [], 0, 0
    for file in _walk(path) if is_folder else _matches(spec):
        suffix = file.suffix.lower()
        if suffix in IMAGE_SUFFIXES:
            pictures += 1
        elif OUTPUT_MARK in file.name and suffix in VIDEO_SUFFIXES:
            outputs += 1
        elif suffix in VIDEO_SUFFIXES or file.is_dir():
            videos.append(file)
    if outputs:
        search.outputs[spec] = outputs
    if videos:
        if pictures:
            search.pictures[spec] = pictures
        videos.sort(key=natural_key)
        search.found += [_Found(str(v), v, v.with_suffix(""), below) for v in videos]
    elif pictures or not outputs:
        search.found.append(_sequence(spec, is_folder))


def _sequence(spec: str, is_folder: bool) -> _Found:
    """Return the pictures of a folder or a pattern."""
    try:
        files = find_pictures(spec)
    except SourceError as error:
        expected = "videos in it or below, or images in it" if is_folder else "videos or images"
        raise SourceError(f"{error}; nor are there videos: expected {expected}") from None
    stem = pictures_stem(Path(spec), files)
    return _Found(spec, stem, stem)


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder and below, and the folders that cannot be read."""
    unreadable: list[Path] = []
    for here, folders, files in os.walk(
        folder, onerror=lambda error: unreadable.append(Path(error.filename))
    ):
        folders[:] = [name for name in folders if not name.startswith(".")]
        folders[:] = [name for name in folders if name not in _SYSTEM_FOLDERS]
        yield from without_hidden(Path(here, name) for name in files)
    yield from unreadable


def _matches(pattern: str) -> Iterator[Path]:
    for name in glob.iglob(pattern, recursive=True):
        path = Path(name)
        if path.is_dir():
            yield from _walk(path)
        elif not path.name.startswith("."):
            yield path


def _fixed_part(pattern: str) -> Path:
    """Return the folder that a pattern begins with."""
    parts = []
    for part in Path(pattern).parts[:-1]:
        if _is_pattern(part):
            break
        parts.append(part)
    return Path(*parts)


def _without_outputs(found: list[_Found], outputs: Counter[str]) -> list[_Found]:
    """Leave out what was written of another of the files: `*.mp4` names both, in a shell."""
    known = {os.path.abspath(path) for one in found for path in (one.stem, one.path)}

    def is_output(one: _Found) -> bool:
        name, mark, _ = one.path.name.partition(OUTPUT_MARK)
        name = TRACK_MARK.sub("", name)
        return bool(mark) and os.path.abspath(one.path.with_name(name)) in known

    for one in found:
        if is_output(one):
            outputs[str(one.path.parent)] += 1
    return [one for one in found if not is_output(one)]


def _places(found: list[_Found], several_folders: bool) -> list[Path]:
    """Name each file by its path below the folder that was named, as long as it takes to differ.

    If several folders were named, their own names come first.
    """
    parts = [Path(os.path.abspath(one.path)).parts[1:] for one in found]
    lengths = [
        1
        if one.below is None
        else len(own) - len(Path(os.path.abspath(one.below)).parts[1:]) + several_folders
        for one, own in zip(found, parts, strict=True)
    ]
    whole = [False] * len(found)  # whether the suffix is part of the name
    while True:
        tails = [Path(*own[-length:]) for own, length in zip(parts, lengths, strict=True)]
        places = [
            tail if keep or one.path == one.stem else tail.with_suffix("")
            for tail, keep, one in zip(tails, whole, found, strict=True)
        ]
        counts = Counter(places)
        before = list(lengths), list(whole)
        for k, place in enumerate(places):
            if counts[place] > 1:
                if whole[k]:
                    lengths[k] = min(lengths[k] + 1, len(parts[k]))
                whole[k] = True
        if (lengths, whole) == before:
            return places
