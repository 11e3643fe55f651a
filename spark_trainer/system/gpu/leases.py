"""Leasing GPUs, whole or by fractions, from those that are visible here."""

import contextlib
import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from spark_trainer.errors import UserError
from spark_trainer.system.gpu import driver, registry
from spark_trainer.system.gpu.registry import Holder

HELD_VARIABLE = "SPARK_TRAINER_GPU_HELD"  # the files of the lease that a process runs under
ORDER_VARIABLE = "CUDA_DEVICE_ORDER"
POLL_SECONDS = (0.2, 1.0)  # the first and the longest pause between two tries
SLACK = 1e-9  # for rounding: three thirds must fit into a whole

logger = logging.getLogger("spark_trainer")

_adopted: list[int] = []


class NoDevice(UserError):
    """A lease that no waiting can bring; the message names the numbers."""


@dataclass(frozen=True)
class Lease:
    """Devices that are taken until the lease has ended and no process holds it any more.

    Attributes:
        devices: their names as in `CUDA_VISIBLE_DEVICES`.
        fraction: the share of each device.
        files: the lease's files, one for each device.
        descriptors: for `subprocess`'s `pass_fds`: a child that gets them holds the lease too.
    """

    devices: tuple[str, ...]
    fraction: float
    files: tuple[Path, ...]
    descriptors: tuple[int, ...]

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables to export to whatever uses the devices, before it starts CUDA."""
        return {
            driver.VISIBLE_VARIABLE: ",".join(self.devices),
            ORDER_VARIABLE: os.environ.get(ORDER_VARIABLE, "PCI_BUS_ID"),
            HELD_VARIABLE: json.dumps([str(file) for file in self.files]),
        }


@contextlib.contextmanager
def lease(
    count: int = 1,
    fraction: float = 1.0,
    what: str = "",
    waiting: Callable[[str], object] = logger.warning,
) -> Iterator[Lease]:
    """Hold a fraction of each of `count` devices; wait until all of them are free at once.

    Args:
        count: how many devices.
        fraction: the share of each; the shares of a device add up to at most 1.
        what: the purpose, as shown to others.
        waiting: called once with a message that says who holds what, if the lease must wait.

    Raises:
        NoDevice: more devices are asked for than are visible here, or count or fraction is
            impossible.
    """
    taken = _wait(_candidates(count, fraction), count, fraction, what, waiting)
    try:
        yield taken
    finally:
        for descriptor in taken.descriptors:
            os.close(descriptor)
        # Where a child still holds the lease, its files stay.
        holders()


def hold() -> None:
    """Hold, until this process ends, the lease that it was started under, if there is one.

    This is for processes that get no descriptors, because a launcher between them and the holder
    closes them. Their devices stay taken even if the launcher dies.

    Raises:
        NoDevice: the lease is gone, so another process may hold its devices.
    """
    for name in json.loads(os.environ.get(HELD_VARIABLE) or "[]"):
        try:
            _adopted.append(registry.adopt(Path(name)))
        except FileNotFoundError:
            raise NoDevice(
                f"the lease {name} is gone, and another process may hold its GPU"
            ) from None


def holders() -> list[Holder]:
    """List who holds what now; inside a Slurm job only that job's holders."""
    path = registry.folder()
    try:
        with registry.locked(path):
            return registry.living(path)
    except FileNotFoundError:
        return []


def by_device(names: Sequence[str], listed: Sequence[driver.Listed]) -> dict[str, list[Holder]]:
    """Return the holders of each of the devices."""
    found = holders()
    uuids = {name: driver.canonical(name, listed) for name in names}
    return {name: [one for one in found if one.device == uuids[name]] for name in names}


def _candidates(count: int, fraction: float) -> dict[str, str]:
    """Return canonical name -> name for CUDA, of every visible device."""
    if not 0 < fraction <= 1:
        raise NoDevice(f"fraction of a GPU: expected above 0 and at most 1 (got {fraction:g})")
    if count < 1:
        raise NoDevice(f"number of GPUs: expected at least 1 (got {count})")
    listed = driver.listing()
    names: dict[str, str] = {}
    for name in driver.visible(listed):
        names.setdefault(driver.canonical(name, listed), name)
    if count > len(names):
        allowed = os.environ.get(driver.VISIBLE_VARIABLE)
        why = "" if allowed is None else f" ({driver.VISIBLE_VARIABLE} is {allowed!r})"
        raise NoDevice(f"GPUs asked for: {count}, visible here: {len(names)}{why}")
    return names


def _wait(
    names: dict[str, str],
    count: int,
    fraction: float,
    what: str,
    waiting: Callable[[str], object],
) -> Lease:
    pause, longest = POLL_SECONDS
    announced = False
    while True:
        path = registry.make_folder()
        with registry.locked(path):
            living = [holder for holder in registry.living(path) if holder.device in names]
            chosen = _choose(list(names), living, count, fraction)
            if chosen:
                return _take(path, {name: names[name] for name in chosen}, fraction, what)
        if not announced:
            held = "; ".join(str(replace(one, device=names[one.device])) for one in living)
            waiting(f"waiting for {fraction:g} of {count} of {len(names)} GPUs, held are {held}")
            announced = True
        time.sleep(pause)
        pause = min(2 * pause, longest)


def _choose(names: list[str], living: list[Holder], count: int, fraction: float) -> list[str]:
    """Choose devices, returned in the order of `names`; none if fewer than `count` have room.

    Idle ones come first; then the fullest with room, so that room for larger fractions stays.
    """
    load = {
        name: math.fsum(holder.fraction for holder in living if holder.device == name)
        for name in names
    }
    room = [name for name in names if load[name] + fraction <= 1 + SLACK]
    best = sorted(room, key=lambda name: (load[name] > 0, -load[name]))[:count]
    return [name for name in names if name in best] if len(best) == count else []


def _take(path: Path, chosen: dict[str, str], fraction: float, what: str) -> Lease:
    """Write a lease file for each device; the caller holds the folder's lock."""
    written: list[tuple[Path, int]] = []
    try:
        for device in chosen:
            written.append(registry.write(path, device, fraction, what))
    except BaseException:
        for _, descriptor in written:
            os.close(descriptor)
        raise
    files, descriptors = zip(*written, strict=True)
    return Lease(tuple(chosen.values()), fraction, files, descriptors)
