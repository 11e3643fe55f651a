"""A process that leases random devices again and again and keeps a journal.

`python -m tests.system.gpu.worker JOURNAL ROUNDS SEED`. A begin is written after the lease was got
and an end before it is given back, so in the order of the journal's lines nothing may ever overlap
that may not.
"""

import os
import random
import sys
import time

from spark_trainer.system import gpu
from spark_trainer.system.gpu import leases


def main() -> None:
    journal = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
    chance = random.Random(int(sys.argv[3]))
    leases.POLL_SECONDS = (0.002, 0.01)
    for _ in range(int(sys.argv[2])):
        count, fraction = chance.choice((1, 1, 2, 3)), chance.choice((0.25, 0.25, 0.5, 1.0))
        with gpu.lease(count, fraction, "a round", waiting=str) as lease:
            held = " ".join(lease.devices)
            os.write(journal, f"begin {os.getpid()} {fraction} {held}\n".encode())
            time.sleep(chance.uniform(0.005, 0.025))
            os.write(journal, f"end {os.getpid()}\n".encode())


if __name__ == "__main__":
    main()
