"""The visible GPUs and who holds them, as a table or as lines of JSON."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from spark_trainer.system.gpu import driver, leases
from spark_trainer.system.gpu.registry import Holder

HEADINGS = ("gpu", "name", "memory", "busy", "held", "pid", "for", "what")
UNKNOWN = "-"


@dataclass(frozen=True)
class Row:
    """A visible device; a fact of the driver is None where the driver doesn't give it."""

    device: str
    name: str | None
    uuid: str | None
    memory_mib: int | None
    used_mib: int | None
    utilisation: int | None
    leases: list[Holder]

    def json(self) -> str:
        """Return the row as one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    def cells(self) -> Iterator[tuple[str, ...]]:
        """Yield the cells of a line for each lease; one line for a device that is free."""
        known = self.memory_mib is not None and self.used_mib is not None
        memory = f"{self.used_mib} of {self.memory_mib} MiB" if known else UNKNOWN
        busy = UNKNOWN if self.utilisation is None else f"{self.utilisation} %"
        facts = (self.device, self.name or UNKNOWN, memory, busy)
        if not self.leases:
            yield (*facts, "free", "", "", "")
        for one in self.leases:
            yield (*facts, f"{one.fraction:g}", str(one.pid), one.age, one.purpose)
            facts = ("", "", "", "")


def rows() -> list[Row]:
    """Return a row for every visible device."""
    listed = driver.listing()
    names = driver.visible(listed)
    asked = {device.uuid: device for device in driver.devices()} if listed else {}
    profiles = {uuid: f"{gpu.name} {profile}" for gpu in listed for uuid, profile in gpu.instances}
    found = []
    for name, held in leases.by_device(names, listed).items():
        uuid = driver.canonical(name, listed)
        known = asked.get(uuid)
        found.append(
            Row(
                device=name,
                name=known.name if known else profiles.get(uuid),
                uuid=None if uuid.isdecimal() else uuid,
                memory_mib=_number(known.memory_mib) if known else None,
                used_mib=_number(known.used_mib) if known else None,
                utilisation=_number(known.utilisation) if known else None,
                leases=held,
            )
        )
    return found


def table(found: list[Row]) -> str:
    """Return the rows as aligned columns below their headings."""
    lines = [HEADINGS, *(cells for row in found for cells in row.cells())]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _number(text: str) -> int | None:
    """Read a number of `nvidia-smi`; None for `[N/A]` and the like."""
    return int(text) if text.isdecimal() else None
