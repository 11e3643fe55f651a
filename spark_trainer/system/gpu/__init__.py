"""The GPUs of this machine, and their leases to processes; nothing heavy is imported."""

from spark_trainer.system.gpu.driver import VISIBLE_VARIABLE, Device, devices, memory_bytes, visible
from spark_trainer.system.gpu.leases import Lease, NoDevice, hold, holders, lease
from spark_trainer.system.gpu.registry import Holder

__all__ = [
    "VISIBLE_VARIABLE",
    "Device",
    "Holder",
    "Lease",
    "NoDevice",
    "devices",
    "hold",
    "holders",
    "lease",
    "memory_bytes",
    "visible",
]
