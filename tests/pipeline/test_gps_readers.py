"""Readers of the GPS formats of cameras and receivers, also of damaged files."""

from __future__ import annotations

import stat
from itertools import pairwise
from pathlib import Path

import pytest

from squeezedrive.pipeline.core.errors import GpsError
from squeezedrive.pipeline.core.gps import GpsFix, TimedFix
from squeezedrive.pipeline.gps import exiftool
from squeezedrive.pipeline.gps.gpx import read_gpx
from squeezedrive.pipeline.gps.nmea import read_nmea
from squeezedrive.pipeline.gps.novatek import read_novatek
from tests.support.gps import (
    UTC,
    block,
    camm,
    gopro,
    gpx,
    latitude,
    rmc,
    sentence,
    write_data,
    write_novatek,
)
from tests.support.media import write_video


def check(fix: GpsFix | None, second: float, lead: float = 0.0) -> None:
    assert fix is not None
    assert fix.lat == pytest.approx(latitude(second), abs=2e-5)  # NovaTek has 32-bit floats
    assert fix.lon == pytest.approx(11)
    assert fix.utc == pytest.approx(UTC + second + lead, abs=1e-3)


def seconds(fixes: list[TimedFix]) -> list[float]:
    return [round(time, 2) for time, _ in fixes]


@pytest.mark.parametrize("place", [16, 48])
def test_reads_novatek_blocks(tmp_path: Path, place: int) -> None:
    blocks = [block(k, place) for k in range(6)]
    blocks[2] = block(2, place, b"VNE\0")  # no fix
    write_novatek(tmp_path / "a.mp4", blocks)
    fixes = read_novatek(tmp_path / "a.mp4")
    assert len(fixes) == 6
    for k, (time, fix) in enumerate(fixes):
        assert time == pytest.approx(k, abs=1.1)
        if k == 2:
            assert fix is None
            continue
        check(fix, k)
        assert fix is not None
        assert fix.speed == pytest.approx(20)
        assert fix.course == 0
    steps = [b - a for (a, x), (b, y) in pairwise(fixes) if x and y]
    assert steps == pytest.approx([1] * 3)  # from the receiver's clock


def test_novatek_positions_in_the_south_and_west_are_negative(tmp_path: Path) -> None:
    write_novatek(tmp_path / "a.mp4", [block(0, 48, b"ASW\0", lat=3351.2)] * 2)
    fix = read_novatek(tmp_path / "a.mp4")[0][1]
    assert fix is not None
    assert (fix.lat, fix.lon) == (pytest.approx(-33 - 51.2 / 60, abs=1e-5), -11)


@pytest.mark.parametrize(
    "bad",
    [b"", b"\0" * 256, b"freeGPS ", block(70, 48), block(0, 48, lat=float("nan")),
     block(0, 48, lat=9999.0), block(0, 48)[:70], block(2**32 - 13, 48)],
)  # fmt: skip
def test_damaged_novatek_blocks_have_no_fix(tmp_path: Path, bad: bytes) -> None:
    path = tmp_path / "a.mp4"
    write_novatek(path, [block(k, 48) for k in range(4)])
    data = path.read_bytes()
    path.write_bytes(data.replace(block(1, 48), bad.ljust(256, b"\1")[:256]))
    found = read_novatek(path)
    assert [fix is not None for _, fix in found] == [True, False, True, True]


def test_a_damaged_novatek_index_keeps_the_other_blocks(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_novatek(path, [block(k, 48) for k in range(3)])
    data = bytearray(path.read_bytes())
    table = data.rindex(b"gps ") + 4
    data[table + 4 : table + 12] = b"\xff" * 8  # block count, first block
    path.write_bytes(data)
    assert [fix is not None for _, fix in read_novatek(path)] == [False, True, True]
    write_video(tmp_path / "b.mp4", 3)
    assert read_novatek(tmp_path / "b.mp4") == []


def test_reads_gopro_tracks(tmp_path: Path) -> None:
    pytest.importorskip("mapillary_tools", reason="GoPro's and Google's GPS: pip install .[gps]")
    from squeezedrive.pipeline.gps.action_cameras import read_data_tracks

    write_data(tmp_path / "a.mp4", b"gpmd", [gopro(0), gopro(1, fix=0), gopro(2)])
    fixes = read_data_tracks(tmp_path / "a.mp4")
    assert seconds(fixes) == [0, 0.5, 1, 1.5, 2, 2.5]
    assert [fix is None for _, fix in fixes] == [False, False, True, True, False, False]
    for time, fix in fixes:
        if fix is not None:
            check(fix, time)
            assert (fix.speed, fix.altitude) == (20, 519)

    write_data(tmp_path / "b.mp4", b"gpmd", [gopro(0)[:60] + b"\xff" * 90, gopro(1)])
    assert seconds(read_data_tracks(tmp_path / "b.mp4"))[-2:] == [1, 1.5]


@pytest.mark.parametrize(
    "samples",
    [
        [gopro(0).replace(b"DEVC\0", b"DEVC\2")] * 2,  # numbers in place of what it contains
        [gopro(0).replace(b"STRM\0", b"STRML")] * 2,
    ],
)
def test_refuses_gopro_tracks_with_another_structure(tmp_path: Path, samples: list[bytes]) -> None:
    pytest.importorskip("mapillary_tools", reason="GoPro's and Google's GPS: pip install .[gps]")
    from squeezedrive.pipeline.gps.action_cameras import read_data_tracks

    write_data(tmp_path / "a.mp4", b"gpmd", samples)
    with pytest.raises(GpsError, match="its GPS is damaged: "):
        read_data_tracks(tmp_path / "a.mp4")


def test_reads_camm_tracks(tmp_path: Path) -> None:
    pytest.importorskip("mapillary_tools", reason="GoPro's and Google's GPS: pip install .[gps]")
    from squeezedrive.pipeline.gps.action_cameras import read_data_tracks

    write_data(tmp_path / "a.mp4", b"camm", [camm(k) for k in range(3)])
    fixes = read_data_tracks(tmp_path / "a.mp4")
    assert seconds(fixes) == [0, 1, 2]
    for time, fix in fixes:
        check(fix, time)
        assert fix is not None
        assert (fix.speed, fix.course) == (20, 0)


def test_reads_gpx(tmp_path: Path) -> None:
    path = tmp_path / "a.gpx"
    text = gpx([0, 1, 2])
    path.write_text(text.replace("<ele>519</ele>", "<ele>519</ele>", 1))
    fixes = read_gpx(path)
    assert seconds(fixes) == [UTC, UTC + 1, UTC + 2]
    for time, fix in fixes:
        check(fix, time - UTC)
        assert fix is not None
        assert (fix.altitude, fix.speed) == (519, None)


def test_gpx_segments_stay_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.gpx"
    path.write_text(gpx([0, 1, 5, 6]).replace("</trkpt><trkpt", "</trkpt>\n<trkpt"))
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], "</trkseg><trkseg>", *lines[2:]]))
    fixes = read_gpx(path)
    assert [(time - UTC, fix is None) for time, fix in fixes] == [
        (0, False), (1, False), (2, True), (5, False), (6, False)
    ]  # fmt: skip


def test_reads_speed_from_gpx(tmp_path: Path) -> None:
    extension = (
        "<extensions><t:x xmlns:t='u'><t:speed>20</t:speed><t:hr>a</t:hr></t:x></extensions>"
    )
    path = tmp_path / "a.gpx"
    path.write_text(gpx([0]).replace("</trkpt>", f"{extension}</trkpt>"))
    fix = read_gpx(path)[0][1]
    assert fix is not None
    assert (fix.speed, fix.course) == (20, None)


@pytest.mark.parametrize(
    "text",
    ["", "hello", "<gpx", "<html></html>", gpx([]), gpx([0]).replace("<time>", "<time>x"),
     gpx([0]).replace('lat="48', 'lat="x'), '{"a": 1}', gpx([0])[:-20], "\0\1\2"],
)  # fmt: skip
def test_files_that_are_not_gpx_are_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.gpx"
    path.write_text(text)
    with pytest.raises(GpsError) as caught:
        read_gpx(path)
    assert str(caught.value).startswith(f"{path}: expected ")
    assert "\n" not in str(caught.value)
    path.write_bytes(b"\xff\xfe<gpx>")
    with pytest.raises(GpsError):
        read_gpx(path)


def test_reads_nmea(tmp_path: Path) -> None:
    path = tmp_path / "a.nmea"
    gga = sentence("GPGGA,101113.00,4800.0,N,01100.0,E,1,8,1.0,519.5,M,47.0,M,,")
    lines = [
        "log of a receiver", rmc(0), gga, f"[1795601473000]{rmc(1)}[12]", rmc(2, "V"),
        "$GPRMC,1011", rmc(3)[:-1] + "?", "$GPGSV,1,1,00*79", rmc(4), "\xff\xfe", rmc(5),
    ]  # fmt: skip
    path.write_text("\n".join(lines), encoding="latin-1")
    fixes = read_nmea(path)
    assert [time - UTC for time, _ in fixes] == [0, 1, 2, 4, 5]
    assert [fix is None for _, fix in fixes] == [False, False, True, False, False]
    for time, fix in fixes:
        if fix is not None:
            check(fix, time - UTC)
            assert fix.speed == pytest.approx(20, abs=1e-3)
            assert fix.course == 0
    assert [None if fix is None else fix.altitude for _, fix in fixes] == [
        None, 519.5, None, None, None
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["", "hello\n", rmc(0, "V"), "$GPRMC,,,,,,,,,,,,", rmc(0).replace("251126", "451399"),
     sentence("GPRMC,1,A,x,N,y,E,z,w,251126,,,A"), "\0\0\0",
     sentence("GPRMC,256161.00,A,4800.0,N,01100.0,E,1,1,251126,,,A")],
)  # fmt: skip
def test_files_that_are_not_nmea_are_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.nmea"
    path.write_text(text)
    with pytest.raises(
        GpsError, match="expected NMEA with RMC sentences that have a fix, got none"
    ):
        read_nmea(path)


SAID = """#!/bin/sh
echo '[{"SourceFile": "a", "GPSLatitude": 1, "Doc1:SampleTime": 0, "Doc1:GPSLatitude": 48,
"Doc1:GPSLongitude": 11, "Doc1:GPSSpeed": 72, "Doc1:GPSTrack": 90,
"Doc1:GPSDateTime": "2026:11:25 10:11:12.5Z", "Doc2:SampleTime": 1, "Doc2:GPSLatitude": 48.1,
"Doc2:GPSLongitude": 11, "Doc2:GPSSpeed": 10, "Doc2:GPSSpeedRef": "N", "Doc3:SampleTime": 2}]'
"""


def program(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "exiftool"
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_reads_exiftools_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, SAID, monkeypatch)
    fixes = exiftool.read_by_exiftool(tmp_path / "a.mp4", 0)
    assert fixes == [
        (0, GpsFix(48, 11, None, pytest.approx(20), 90, UTC + 0.5)),
        (1, GpsFix(48.1, 11, None, pytest.approx(18520 / 3600))),
    ]
    program(tmp_path, SAID.replace("SampleTime", "Other"), monkeypatch)
    assert [time for time, _ in exiftool.read_by_exiftool(tmp_path / "a.mp4", 3)] == [3]


@pytest.mark.parametrize("text", ["#!/bin/sh\n", "#!/bin/sh\necho '[]'\n", "#!/bin/sh\nexit 1\n"])
def test_an_exiftool_that_fails_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    program(tmp_path, text, monkeypatch)
    with pytest.raises(GpsError, match="exiftool cannot read it"):
        exiftool.read_by_exiftool(tmp_path / "a.mp4", 0)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(GpsError, match="libimage-exiftool-perl"):
        exiftool.read_by_exiftool(tmp_path / "a.mp4", 0)
