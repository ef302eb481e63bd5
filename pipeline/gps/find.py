"""Find the positions of a recording, by the clock of its source."""

from __future__ import annotations

from pathlib import Path

from squeezedrive.engines.errors import PackageMissing
from squeezedrive.pipeline.core.boxes import inside, sample_entries, top_boxes
from squeezedrive.pipeline.core.errors import GpsError
from squeezedrive.pipeline.core.gps import GpsTrack, TimedFix
from squeezedrive.pipeline.core.moments import format_moment
from squeezedrive.pipeline.core.source import Source, SourceInfo

SUFFIXES = (".gpx", ".nmea")
DATA_TRACKS = {b"gpmd", b"camm"}
ZONES = range(-14 * 3600, 14 * 3600 + 1, 900)  # seconds that clocks are ahead of UTC


def follow_gps(source: Source, choice: str, offset: float | None, start: float = 0.0) -> None:
    """Find the positions of a source that is not live, and give them to it.

    With "auto", positions that cannot be used are left out with a warning.

    Parameters
    ----------
    source : Source
        Nothing has been read from it.
    choice : str
        "auto", "exiftool", "none" or a file that ends in .gpx or .nmea; see configs/file.yaml.
    offset : float or None
        Seconds by which UTC is ahead of the recording's time of creation, for tracks in files;
        None: 0, or those of a time zone, if only that fits.
    start : float
        Seconds skipped at its beginning.

    Raises
    ------
    GpsError
        If there is no such file, it has no positions, or they are from another time.
    """
    info = source.info
    try:
        if choice == "none" or (info.live and choice == "auto"):
            return
        if info.live:
            raise GpsError(f"{info.name}: source.gps: expected a file as source, got a live one")
        if choice == "exiftool":
            track = _by_exiftool(info)
        elif choice != "auto":
            track = _in_file(Path(choice), source, offset, start)
        else:
            found = _found(source, offset, start)
            if found is None:
                return
            track = found
    except (GpsError, PackageMissing, OSError) as error:
        if choice != "auto":
            if isinstance(error, OSError):
                raise GpsError(f"{choice}: cannot be read: {error.strerror}") from None
            raise
        reason = error.strerror if isinstance(error, OSError) else error
        source.report.warn(f"{info.name}: no GPS: {reason}")
        return
    if not track.is_empty:
        source.follow(track)
    elif choice != "auto":
        raise GpsError(f"{choice}: expected positions of {info.name}, found none")


def _found(source: Source, offset: float | None, start: float) -> GpsTrack | None:
    """Return the track in a file or beside it; None if there is none."""
    info = source.info
    if info.path is None or info.kind != "file":
        return None
    fixes = _in_recording(info.path)
    if fixes:
        return GpsTrack(fixes, info.name)
    for suffix in SUFFIXES:
        for ending in (suffix, suffix.upper()):
            beside = info.path.with_suffix(ending)
            if beside.is_file():
                return _in_file(beside, source, offset, start)
    # Last, as there may be positions that nothing can read.
    if info.identity.side_tracks and sample_entries(info.path):
        return GpsTrack(_in_subtitles(info.path), info.name)
    return None


def _in_recording(path: Path) -> list[TimedFix]:
    from squeezedrive.pipeline.gps import exiftool
    from squeezedrive.pipeline.gps.novatek import read_novatek

    with path.open("rb") as file:
        kinds = {box.kind for box in top_boxes(file)}
        if b"moov" not in kinds:
            return []
        blackvue = any(inside(file, top_boxes(file), b"free", b"gps "))
    fixes = read_novatek(path)
    if fixes:
        return fixes
    tracks = {entry.kind for entry in sample_entries(path)}
    if blackvue or tracks & DATA_TRACKS:
        from squeezedrive.pipeline.gps.action_cameras import read_data_tracks

        try:
            fixes = read_data_tracks(path)
        except PackageMissing:
            if not exiftool.is_installed():
                raise
        if not fixes and exiftool.is_installed():
            return exiftool.read_by_exiftool(path, 0.0)
    return fixes


def _in_subtitles(path: Path) -> list[TimedFix]:
    from squeezedrive.pipeline.gps import exiftool
    from squeezedrive.pipeline.gps.text_tracks import OtherText, read_text_tracks

    try:
        return read_text_tracks(path)
    except OtherText:
        fixes = exiftool.read_by_exiftool(path, 0.0) if exiftool.is_installed() else []
    if not fixes:
        raise GpsError(
            "its subtitles have positions in a layout that neither this program nor exiftool, if it"
            " is installed, can read; they come along as text"
        )
    return fixes


def _by_exiftool(info: SourceInfo) -> GpsTrack:
    from squeezedrive.pipeline.gps.exiftool import read_by_exiftool

    if info.path is None:
        raise GpsError(f"{info.name}: source.gps: expected a file, as exiftool reads only files")
    return GpsTrack(read_by_exiftool(info.path, 0.0), f"{info.name} (exiftool)")


def _in_file(path: Path, source: Source, offset: float | None, start: float) -> GpsTrack:
    suffix = path.suffix.lower()
    if suffix == ".gpx":
        from squeezedrive.pipeline.gps.gpx import read_gpx

        fixes = read_gpx(path)
    elif suffix == ".nmea":
        from squeezedrive.pipeline.gps.nmea import read_nmea

        fixes = read_nmea(path)
    else:
        raise GpsError(
            f"source.gps: expected auto, exiftool, none, or a file that ends in .gpx or .nmea, got"
            f" {path}"
        )
    lead = _lead(path, fixes, source, offset, start)
    return GpsTrack([(time - lead, fix) for time, fix in fixes], str(path))


def _lead(
    path: Path, fixes: list[TimedFix], source: Source, offset: float | None, start: float
) -> float:
    """Return the UTC at 0 of the source's clock; warn if it was guessed."""
    info = source.info
    times = [time for time, fix in fixes if fix is not None]
    first, last = min(times), max(times)
    origin = float(info.origin * info.time_base)
    if info.identity.began is None:
        if offset is not None:
            raise GpsError(
                f"{info.name}: source.gps_offset: counts from the time of creation, which the file"
                " does not have"
            )
        source.report.warn(
            f"{info.name}: has no time of creation; {path} is assumed to begin at the same time"
        )
        return first - (origin - start)
    began = float(info.identity.began)
    begin = began + origin
    length = 0.0 if info.frames is None or info.fps is None else float(info.frames / info.fps)

    def covers(ahead: float) -> bool:
        return first <= begin + ahead + length and begin + ahead <= last

    if offset is not None or covers(0):
        ahead = offset or 0.0
        if not covers(ahead):
            raise _misfit(path, info, first, last, begin + ahead)
        return began + ahead
    zones = [zone for zone in ZONES if first <= begin + zone and begin + zone + length <= last]
    if len(zones) != 1:
        raise _misfit(path, info, first, last, begin)
    hours = -zones[0] / 3600
    source.report.warn(
        f"{info.name}: its time of creation is assumed to be local, UTC{hours:+g} h, which fits"
        f" {path} (source.gps_offset)"
    )
    return began + zones[0]


def _misfit(path: Path, info: SourceInfo, first: float, last: float, begin: float) -> GpsError:
    moments = [format_moment(seconds)[:19] + "Z" for seconds in (begin, first, last)]
    return GpsError(
        f"{path}: expected positions of {info.name}, recorded at {moments[0]}, got some from"
        f" {moments[1]} to {moments[2]}; --set source.gps_offset=SECONDS sets by how much UTC is"
        " ahead of the recording's time"
    )
