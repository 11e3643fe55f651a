#!/usr/bin/env python3
"""A Slurm of two nodes on this machine, for as long as one command runs.

    tests/slurm/cluster.py --install [--accounts] uv run pytest -m slurm

Both nodes are this machine; each has 64 cores, 500 GB and 8 GPUs that are counted and not there.
A job that takes more memory than it asked for is killed. `--accounts` keeps accounts, in a database
of its own, so that `sacct` answers. `--install` first installs Debian's packages. It needs root,
because Slurm's commands look for their configuration in /etc/slurm also where a job's environment
was emptied. All that it started is stopped in the end.
"""

import contextlib
import itertools
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PACKAGES = ("munge", "slurm-client", "slurmctld", "slurmd")
DAEMONS = ("munged", "slurmctld", "slurmd")
ACCOUNTS_PACKAGES = ("mariadb-client-core", "mariadb-server-core", "slurmdbd")
ACCOUNTS_DAEMONS = ("mariadbd", "slurmdbd")
OPTIONS = ("--install", "--accounts")
NODES = ("n1", "n2")
CONFIGURATION = Path("/etc/slurm")
CLUSTER = "spark-trainer-tests"
NAME_VARIABLE = "SPARK_TRAINER_TEST_CLUSTER"

SLURM_CONF = """
ClusterName={cluster}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge.socket
CredType=cred/munge
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool.%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.%n.log
SwitchType=switch/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=2
MinJobAge=600
KillWait=2
ReturnToService=2
GresTypes=gpu
SlurmdParameters=config_overrides
"""
NO_ACCOUNTS = "AccountingStorageType=accounting_storage/none\n"
ACCOUNTS = """
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={root}/munge.socket
"""
SLURMDBD_CONF = """
AuthType=auth/munge
AuthInfo=socket={root}/munge.socket
SlurmUser=root
DbdHost=localhost
DbdPort={port}
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database_port}
StorageUser=root
PidFile={root}/slurmdbd.pid
LogFile={root}/slurmdbd.log
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} "
SIZE = "CPUs=64 RealMemory=500000 Gres=gpu:8 State=UNKNOWN\n"
PARTITION = "PartitionName={name} Nodes={nodes} Default={default} MaxTime=INFINITE State=UP\n"


def main(arguments: list[str]) -> int:
    """Start the cluster, run the command, stop the cluster; the command's exit status."""
    command = list(itertools.dropwhile(OPTIONS.__contains__, arguments))
    options = arguments[: len(arguments) - len(command)]
    accounts = "--accounts" in options
    if not command:
        sys.exit(__doc__)
    if os.geteuid() != 0:
        sys.exit("the test cluster needs root: it writes to /etc/slurm")
    if "--install" in options:
        _install([*PACKAGES, *(ACCOUNTS_PACKAGES if accounts else ())])
    daemons = [*DAEMONS, *(ACCOUNTS_DAEMONS if accounts else ())]
    if missing := [name for name in daemons if not shutil.which(name)]:
        sys.exit(f"no {', '.join(missing)} here; --install installs Debian's packages")
    if (CONFIGURATION / "slurm.conf").exists():
        sys.exit(f"{CONFIGURATION}/slurm.conf is there: this machine belongs to a cluster")
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, lambda *_: sys.exit(1))
    with running(accounts):
        return subprocess.run(command, env=os.environ | {NAME_VARIABLE: CLUSTER}).returncode


def _install(packages: list[str]) -> None:
    # Runlevel 1 keeps the packages from starting services of their own.
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    subprocess.run(["apt-get", "update", "-qq"], check=True)
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    subprocess.run(command, env=quiet, stdout=subprocess.DEVNULL, check=True)


@contextlib.contextmanager
def running(accounts: bool) -> Iterator[Path]:
    """A cluster that accepts jobs; yields the folder of its logs."""
    with tempfile.TemporaryDirectory(prefix="slurm.") as folder, contextlib.ExitStack() as stack:
        root = Path(folder)
        root.chmod(0o755)  # munge wants to be reached by everybody
        database_port = _configure(root, accounts)
        for path in root.glob("*.conf"):
            stack.callback(_link(path).unlink)
        key = root / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        files = {"key": key, "socket": root / "munge.socket", "pid": root / "munged.pid"}
        files |= {"log": root / "munged.log", "seed": root / "munged.seed"}
        options = [f"--{name}-file={path}" for name, path in files.items() if name != "socket"]
        munged = ["munged", "--foreground", "--force", f"--socket={files['socket']}", *options]
        stack.enter_context(_daemon(*munged))
        _until(files["socket"].exists, root)
        if accounts:
            _start_accounts(root, database_port, stack)
        stack.enter_context(_daemon("slurmctld", "-D", "-i"))
        for name in NODES:
            stack.enter_context(_daemon("slurmd", "-D", "-N", name))
        stack.callback(_cancel_all)
        _until(
            lambda: (
                _ask("sinfo", "--noheader", "--states=idle", "--partition=cpu", "--format=%D")
                == "2"
            ),
            root,
        )
        yield root


def _start_accounts(root: Path, database_port: int, stack: contextlib.ExitStack) -> None:
    """Start the database and the daemon that writes to it."""
    data = root / "database"
    user = ("--user=root", f"--datadir={data}")
    install = ["mariadb-install-db", *user, "--auth-root-authentication-method=normal"]
    subprocess.run(install, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    place = ("--bind-address=127.0.0.1", f"--port={database_port}", f"--socket={data}/socket")
    stack.enter_context(_daemon("mariadbd", "--no-defaults", *user, *place))
    _until((data / "socket").exists, root)
    stack.enter_context(_daemon("slurmdbd", "-D"))
    _until(lambda: CLUSTER in _ask("sacctmgr", "--immediate", "add", "cluster", CLUSTER), root)


def _configure(root: Path, accounts: bool) -> int:
    """Write the cluster's files; returns a port for a database."""
    for name in ("state", *(f"spool.{node}" for node in NODES)):
        (root / name).mkdir()
    for number in range(8):
        # Slurm takes no ordinary file for a device.
        os.mknod(root / f"gpu{number}", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    host = socket.gethostname().partition(".")[0]
    ports = _free_ports(3 + len(NODES))
    text = SLURM_CONF.format(cluster=CLUSTER, host=host, port=ports.pop(), root=root)
    for node in NODES:
        text += NODE.format(name=node, host=host, port=ports.pop()) + SIZE
    for name, default in (("cpu", "YES"), ("gpu", "NO")):
        text += PARTITION.format(name=name, nodes=",".join(NODES), default=default)
    port, database_port = ports.pop(), ports.pop()
    text += ACCOUNTS.format(port=port, root=root) if accounts else NO_ACCOUNTS
    (root / "slurm.conf").write_text(text)
    if accounts:
        path = root / "slurmdbd.conf"
        path.touch(mode=0o600)
        path.write_text(SLURMDBD_CONF.format(port=port, database_port=database_port, root=root))
    gpus = f"AutoDetect=off\nNodeName={','.join(NODES)} Name=gpu File={root}/gpu[0-7]\n"
    (root / "gres.conf").write_text(gpus)
    return database_port


def _link(file: Path) -> Path:
    """Link a file from where Slurm looks for it."""
    CONFIGURATION.mkdir(exist_ok=True)
    link = CONFIGURATION / file.name
    link.unlink(missing_ok=True)
    link.symlink_to(file)
    return link


@contextlib.contextmanager
def _daemon(*command: str) -> Iterator[None]:
    """A process that ends with the block, or with this process, however that ends."""
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "TERM", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _cancel_all() -> None:
    """End every job, so that no step outlives the daemon that started it."""
    _ask("scancel", "--full", "--signal=KILL", "--user=root")
    _ask("scancel", "--user=root")
    end = time.monotonic() + 30
    while _ask("squeue", "--noheader") and time.monotonic() < end:
        time.sleep(0.2)


def _ask(*command: str) -> str:
    """What a command of Slurm's answers; nothing where it waits for a daemon that is gone."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
        return done.stdout.strip()
    except subprocess.TimeoutExpired:
        return ""


def _until(holds: Callable[[], bool], root: Path) -> None:
    end = time.monotonic() + 60
    while not holds():
        if time.monotonic() > end:
            for log in sorted(root.glob("*.log")):
                print(f"-- {log.name}\n{log.read_text()[-2000:]}", file=sys.stderr)
            sys.exit("the test cluster did not start")
        time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
