"""GPS in recordings, and GPX and NMEA files beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hypothesis import strategies as st

from tests.fuzz.case import Case, Content
from tests.fuzz.mutate import Damaged, damaged
from tests.fuzz.targets.base import Target, seed_files
from tests.fuzz.targets.media import run_program, without_network
from tests.fuzz.values import odd_texts
from tests.support.gps import block, camm, gopro, gpx, latitude, rmc, sentence

SECONDS = (0, 1, 2)
PARTS = {
    "novatek.mp4": [block(second, 48) for second in SECONDS],
    "gopro.mp4": [gopro(second) for second in SECONDS],
    "camm.mp4": [camm(second) for second in SECONDS],
    "subtitles.mp4": [rmc(second).encode() for second in SECONDS],
}
OPTIONS = (
    ("-o", "out/o.mp4", "--jsonl", "out/o.jsonl"),
    ("--no-video", "--jsonl", "out/o.jsonl"),
    ("-o", "out/o.mp4", "--start", "0.6", "--segment", "1"),
)


@dataclass(frozen=True)
class DamagedPart:
    """A copy of a file with damage in one part only; the size of the part remains.

    Attributes
    ----------
    whole : bytes
        The file.
    part : bytes
        A part of it.
    damage : Damaged
        The part with damage.
    """

    whole: bytes
    part: bytes
    damage: Damaged

    def __bytes__(self) -> bytes:
        """Make the file."""
        size = len(self.part)
        return self.whole.replace(self.part, bytes(self.damage)[:size].ljust(size, b"\0"))


def _recordings() -> st.SearchStrategy[Mapping[str, Content]]:
    """Return a strategy for recordings with damage anywhere, or in one of their positions."""
    contents: list[st.SearchStrategy[Content]] = []
    for name, parts in PARTS.items():
        (whole,) = seed_files(name)
        contents.append(damaged(whole))
        for part in parts:
            assert part in whole, name
            contents.append(
                damaged(part, parts).map(
                    lambda damage, whole=whole, part=part: DamagedPart(whole, part, damage)
                )
            )
    return st.one_of(contents).map(lambda content: {"drive.mp4": content})


def _odd_gpx(latitude: str, time: str, speed: str) -> bytes:
    """Return a GPX document in which one point has these texts."""
    middle = f'<trkpt lat="{latitude}" lon="11"><time>{time}</time><speed>{speed}</speed></trkpt>'
    text = gpx(SECONDS).replace("</trkseg>", f"{middle}</trkseg>")
    return text.encode(errors="surrogatepass")


def _odd_nmea(place: int, text: str) -> bytes:
    """Return NMEA sentences of which the second has a text in one field, and a right check sum."""
    fields = rmc(1)[1:].split("*")[0].split(",")
    fields[place] = text
    changed = ",".join(fields).encode("utf-8", "replace").decode()
    return "\r\n".join([rmc(0), sentence(changed), rmc(2), ""]).encode()


def _tracks() -> st.SearchStrategy[Mapping[str, Content]]:
    """Return a strategy for a sound recording beside a damaged or odd track."""
    (clip,) = seed_files("h264.mp4")
    nmea = "\r\n".join(map(rmc, SECONDS)).encode()
    spot, moment, speed = (
        st.one_of(st.just(usual), odd_texts)
        for usual in (str(latitude(3)), "2026-11-25T10:11:15Z", "20")
    )
    odd_gpx = st.builds(_odd_gpx, spot, moment, speed)
    odd_nmea = st.builds(_odd_nmea, st.integers(0, 12), odd_texts)
    contents: list[tuple[str, st.SearchStrategy[Content]]] = [
        ("drive.gpx", damaged(gpx(SECONDS).encode(), [nmea])),
        ("drive.nmea", damaged(nmea)),
        ("drive.gpx", odd_gpx),
        ("drive.nmea", odd_nmea),
    ]
    return st.one_of(
        content.map(lambda content, name=name: {"drive.mp4": clip, name: content})
        for name, content in contents
    )


def positions() -> st.SearchStrategy[Case]:
    """Return a strategy for runs of recordings with damaged positions."""
    return st.builds(
        lambda files, options: Case(("in/drive.mp4", *options, "--no-progress"), files),
        st.one_of(_recordings(), _tracks()),
        st.sampled_from(OPTIONS),
    )


TARGETS = {"gps": Target(positions, run_program, 40, 30, without_network)}
