"""How busy the GPUs are, asked beside the build: a driver in trouble answers late, or never."""

import threading

from spark_trainer.system.gpu import driver

EVERY_SECONDS = 3.0


class Gpus:
    """Asks the driver about the GPUs that jobs may use, as long as it knows of any.

    Attributes:
        text: its newest answer.
    """

    def __init__(self) -> None:
        self.text = ""
        self._over = threading.Event()
        threading.Thread(target=self._ask, daemon=True).start()

    def end(self) -> None:
        """Ask no more."""
        self._over.set()

    def _ask(self) -> None:
        listed = driver.listing()
        ours = {driver.canonical(name, listed) for name in driver.visible(listed)}
        while ours and not self._over.is_set():
            found = [one for one in driver.devices() if one.uuid in ours]
            self.text = "   ".join(
                f"GPU {one.index}: {one.utilisation} %, {one.used_mib} of {one.memory_mib} MiB"
                for one in found
            )
            self._over.wait(EVERY_SECONDS)
