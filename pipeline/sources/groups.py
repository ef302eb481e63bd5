"""Find the key frame where decoding begins, in a file without an index."""

from __future__ import annotations

from collections.abc import Iterator

import av

MAX_BYTES = 64 * 2**20  # of pictures that may turn out to be needed, half a minute of a dashcam's


def from_key_frame(packets: Iterator[av.Packet], begin: int) -> Iterator[av.Packet]:
    """Yield the packets from the last key frame on that is shown at `begin` or before.

    Parameters
    ----------
    packets : iterator of Packet
        Of one video track, in the order of decoding.
    begin : int
        In units of the track's time base.
    """
    held: list[av.Packet] = []
    size = 0
    for packet in packets:
        shown = packet.dts if packet.pts is None else packet.pts
        decoded = shown if packet.dts is None else packet.dts
        if packet.is_keyframe and shown is not None and shown <= begin:
            held, size = [], 0
        held.append(packet)
        size += packet.size
        if (decoded is not None and decoded > begin) or size > MAX_BYTES:
            break
    yield from held
    yield from packets
