"""The time stamps of a file's packets, on one clock."""

from typing import Any

JUMP_BACK_S = 0.1  # FFmpeg's own limits, in fftools' ts_discontinuity_detect
JUMP_AHEAD_S = 10.0
CENTURIES_S = 1e10  # a wall clock's seconds since 1970 are 1.8e9


def drop_absurd_times(packet: Any) -> None:
    """Remove time stamps that no recording can have."""
    for name in ("pts", "dts"):
        ticks = getattr(packet, name)
        if ticks is not None and abs(ticks * packet.time_base) > CENTURIES_S:
            setattr(packet, name, None)


class Clock:
    """One clock for time stamps that may start again in the middle of a file."""

    def __init__(self) -> None:
        self._offset_s = 0.0
        self._due_s: dict[int, float] = {}  # stream -> when its next packet is due

    def correct(self, packet: Any) -> None:
        """Move the time stamps of a packet; packets come in the file's order."""
        if packet.dts is None:
            return
        base = packet.time_base
        time = float(packet.dts * base) + self._offset_s
        due = self._due_s.get(packet.stream_index)
        latest = max(self._due_s.values(), default=time)
        if due is not None and (time < due - JUMP_BACK_S or time > latest + JUMP_AHEAD_S):
            self._offset_s += due - time
            time = due
        self._due_s[packet.stream_index] = time + float((packet.duration or 0) * base)
        ticks = round(self._offset_s / base)
        packet.dts += ticks
        if packet.pts is not None:
            packet.pts += ticks
