"""The preStop of a worker pod, on a real node of a real cluster."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from ray_head import ray_head

DRAIN = Path(__file__).resolve().parents[3] / "jobs" / "kubernetes" / "drain.sh"
# An idle node leaves as soon as it is told to, so this one has work when its pod is ended.
DRIVER = """
import os, subprocess, sys, time
import ray
from ray._private.state import state
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

def until(condition):
    end = time.monotonic() + 120
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.2)
    return found

ray.init(log_to_driver=False, logging_level="ERROR")
one_slot = lambda: [n["NodeID"] for n in ray.nodes() if n["Resources"].get("CPU") == 1]
(node,) = until(one_slot)

@ray.remote(num_cpus=1, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))
class Shard:
    def ping(self):
        return "pong"

shard = Shard.remote()
ray.get(shard.ping.remote())
assert state.get_draining_nodes() == {}
line = [sys.argv[1], "worker", f"--address={os.environ['RAY_ADDRESS']}", f"--node-id={node}"]
drain = subprocess.Popen(line, stdout=sys.stderr)
draining = until(state.get_draining_nodes)
assert list(draining) == [node]
assert drain.poll() is None, "the pod is there for as long as Ray was told"
left = draining[node] / 1000 - time.time()
assert 60 < left <= 90, left
drain.kill()
print("drained")
"""

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(600)]


def test_ray_learns_that_the_node_goes_away() -> None:
    pytest.importorskip("ray")
    with ray_head(cpus=2) as head:
        head.start("node", f"--address={head.gcs}", "--num-cpus=1")
        done = subprocess.run(
            [sys.executable, "-c", DRIVER, str(DRAIN)],
            env={**head.environment, "RAY_ADDRESS": head.gcs, "SECONDS_LEFT": "90"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.stdout.splitlines()[-1:] == ["drained"], done.stderr
