"""The preStop of a worker pod, on a real node of a real cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ray_head import RayHead, ray_head

DRAIN = Path(__file__).resolve().parents[3] / "jobs" / "kubernetes" / "drain.sh"
ASK = """
import json, ray
from ray._private.state import state
ray.init(log_to_driver=False, logging_level="ERROR")
alive = {node["NodeID"]: node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]}
print(json.dumps({"alive": alive, "draining": list(state.get_draining_nodes())}))
"""

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(600)]


def ask(head: RayHead) -> dict[str, dict[str, float]]:
    environment = {**head.environment, "RAY_ADDRESS": head.gcs}
    done = subprocess.run(
        [sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_ray_learns_that_the_node_goes_away() -> None:
    pytest.importorskip("ray")
    with ray_head(cpus=2) as head:
        head.start("node", f"--address={head.gcs}", "--num-cpus=1")
        end = time.monotonic() + 120
        while len(ask(head)["alive"]) < 2:
            assert time.monotonic() < end
        found = ask(head)
        assert list(found["draining"]) == []
        (node,) = (name for name, cpus in found["alive"].items() if cpus == 1)
        line = [str(DRAIN), "worker", f"--address={head.gcs}", f"--node-id={node}"]
        environment = {**os.environ, **head.environment, "SECONDS_LEFT": "20"}
        with subprocess.Popen(line, env=environment) as process:
            try:
                while node not in ask(head)["draining"]:
                    assert process.poll() is None, "the pod is there as long as Ray was told"
            finally:
                process.kill()
