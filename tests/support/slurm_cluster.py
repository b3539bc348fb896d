"""A Slurm cluster of one node on this machine, with a configuration and a key of its own."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

DEBIAN_PACKAGES = "slurm-wlm munge"
_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"
_START_SECONDS = 60.0

# Slots for eight tasks, whatever the machine has; a requeued job may start after five seconds.
_CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
JobRequeue=1
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=0
NodeName={host} NodeAddr=127.0.0.1 CPUs=16 RealMemory=64000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str:
    """Return why no cluster can be started here; empty when one can."""
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if not _which(name)]
    if missing:
        return f"{', '.join(missing)} not installed; Debian: apt-get install {DEBIAN_PACKAGES}"
    return "" if os.geteuid() == 0 else "slurmd starts jobs as their users: it has to be root"


@contextmanager
def slurm_cluster() -> Iterator[dict[str, str]]:
    """Yield the environment in which Slurm's commands talk to the cluster."""
    # Not below pytest's folder: the path of a socket is short.
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    environment = {**os.environ, "PATH": _PATH, "SLURM_CONF": str(folder / "slurm.conf")}
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        _configure(folder)
        for name, line in (
            ("munged", _munged(folder)),
            ("slurmctld", ["slurmctld", "-D", "-f", f"{folder}/slurm.conf"]),
            ("slurmd", ["slurmd", "-D", "-f", f"{folder}/slurm.conf"]),
        ):
            log = stack.enter_context((folder / f"{name}.log").open("wb"))
            process = subprocess.Popen(line, stdout=log, stderr=log, env=environment)
            stack.callback(_end, process)
            if name == "munged":
                _wait(folder, (folder / "munge.socket").exists)
        _wait(folder, lambda: "idle" in _out(["sinfo", "-h", "-o", "%T"], environment))
        stack.callback(_out, ["scancel", "--full", "--user=root"], environment)
        yield environment


def job_state(job: str, environment: dict[str, str]) -> dict[str, str]:
    """Return what the controller tells of a job or of one task of an array, by name."""
    told = _out(["scontrol", "show", "job", "-o", job], environment)
    return dict(re.findall(r"(\w+)=(\S*)", told.splitlines()[0]))


def wait_for_job(job: str, environment: dict[str, str], timeout: float = 240.0) -> str:
    """Return a job's exit code and signal, ``CODE:SIGNAL``, when it has ended for good."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        found = job_state(job, environment)
        if found["JobState"] in {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"}:
            return found["ExitCode"]
        time.sleep(0.5)
    raise TimeoutError(f"job {job} did not end: {job_state(job, environment)}")


def _configure(folder: Path) -> None:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        ports = {"controller_port": one.getsockname()[1], "node_port": two.getsockname()[1]}
    host = socket.gethostname().split(".")[0]
    text = _CONFIG.format(folder=folder, host=host, **ports)
    (folder / "slurm.conf").write_text(text.lstrip())
    # Which release can do without control groups; before, the first kind asks for nothing.
    version = _out(["slurmctld", "-V"], {**os.environ, "PATH": _PATH})
    year, month = map(int, re.findall(r"\d+", version)[:2])
    plugin = "disabled" if (year, month) >= (23, 11) else "cgroup/v1"
    (folder / "cgroup.conf").write_text(f"CgroupPlugin={plugin}\n")
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(secrets.token_bytes(1024))
    (folder / "munge.key").chmod(0o400)
    folder.chmod(0o755)


def _munged(folder: Path) -> list[str]:
    files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "seed-file": "seed"}
    options = [f"--{option}={folder}/munge.{ending}" for option, ending in files.items()]
    return ["munged", "--foreground", "--force", *options]


def _which(name: str) -> str | None:
    return shutil.which(name, path=_PATH)


def _out(line: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def _wait(folder: Path, ready: Callable[[], bool]) -> None:
    end = time.monotonic() + _START_SECONDS
    while not ready():
        if time.monotonic() > end:
            logs = {path.name: path.read_text()[-1000:] for path in folder.glob("*.log")}
            raise TimeoutError(f"the cluster did not start: {logs}")
        time.sleep(0.2)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
