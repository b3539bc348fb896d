"""What happens once a process, before its first shard: imports, surrogate, models, Ray."""

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ...execution.artifact import save_surrogate
from ...method.config import FitConfig
from ...method.models import model_spec
from .method import make_corpus, untrained
from .record import Figure

SECTION = "startup"

# Run by a fresh interpreter; prints the processor seconds of each phase as JSON.
_SCRIPT = """
import json, sys, time
settings = json.loads(sys.argv[1])
phases, last = {}, time.process_time()
def done(phase):
    global last
    now = time.process_time()
    phases[phase], last = now - last, now
import unlearnable
done("import the package")
from unlearnable.pipeline.execution import worker
done("import torch, open_clip and pyarrow")
from unlearnable.pipeline.experiments.bench.method import make_corpus
from unlearnable.pipeline.execution.artifact import load_surrogate
from unlearnable.pipeline.method.config import MethodConfig
from unlearnable.pipeline.method.protector import BatchProtector
corpus = make_corpus(settings["samples"], settings["size"])
last = time.process_time()
with worker.fixed_threads(1):
    surrogate, _ = load_surrogate(settings["surrogate"])
    done("read the surrogate")
    protector = BatchProtector(surrogate, MethodConfig(), settings["device"])
    done("build its models")
    for batch in ("first batch", "second batch"):
        protector(list(corpus.images), corpus.captions, 0)
        done(batch)
if settings["ray"]:
    import ray
    done("import ray")
print(json.dumps(phases))
"""


def bench_startup(settings: FitConfig) -> Iterator[Figure]:
    """Measure each phase in a process of its own, three times; the shortest counts."""
    size = model_spec(settings.model, image_size=settings.image_size).image_size
    samples = min(settings.batch_size, 32)
    with tempfile.TemporaryDirectory(prefix="unlearnable-bench-") as name:
        surrogate = str(Path(name) / "surrogate")
        save_surrogate(untrained(make_corpus(samples, size), settings), surrogate)
        told = {
            "samples": samples,
            "size": size,
            "surrogate": surrogate,
            "device": settings.device,
            "ray": importlib.util.find_spec("ray") is not None,
        }
        line = [sys.executable, "-c", _SCRIPT, json.dumps(told)]
        runs = [json.loads(subprocess.check_output(line, text=True)) for _ in range(3)]
    for phase in runs[0]:
        yield Figure(SECTION, phase, "processor time", min(run[phase] for run in runs), "s")
