"""Dashboard and alert rules: metrics that exist, valid PromQL, a model that Grafana takes.

No registry of packages holds a Grafana server, so the dashboard is checked against Grafana's own
schema (its Foundation SDK). The rules run in Prometheus's `promtool`.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "jobs" / "grafana"
RULES = FOLDER / "alerts.yaml"
METRICS = ROOT / "pipeline/execution/executors/ray/metrics.py"
_NAME = re.compile(r"ray_unlearnable_(\w+)")


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text())
    return found


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panel_queries() -> Iterator[str]:
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            # What Grafana puts in before it asks Prometheus.
            yield target["expr"].replace("$output", ".*")


def metrics() -> dict[str, str]:
    """The metrics that the code exports: counter or gauge by name."""
    found = re.findall(r'self\._(counter|gauge)\("(\w+)"', METRICS.read_text())
    return {name: kind for kind, name in found}


def test_the_dashboard_shows_every_metric_and_no_other() -> None:
    shown = {name for query in panel_queries() for name in _NAME.findall(query)}
    assert len(shown) == 11
    assert shown == set(metrics())


def test_alerts_watch_metrics_that_exist() -> None:
    watched = {name for rule in rules() for name in _NAME.findall(rule["expr"])}
    assert watched
    assert watched <= set(metrics())


def test_counters_are_found_by_both_names_and_gauges_by_theirs() -> None:
    for query in [*panel_queries(), *(rule["expr"] for rule in rules())]:
        for name in _NAME.findall(query):
            both = f"ray_unlearnable_{name}(_total)?" in query
            assert both == (metrics()[name] == "counter"), query


@pytest.mark.parametrize("query", [*panel_queries(), *(rule["expr"] for rule in rules())])
def test_queries_are_promql(query: str) -> None:
    parser = pytest.importorskip("promql_parser")
    parser.parse(query)
    with pytest.raises(ValueError, match="unexpected"):
        parser.parse(query + ")")


def test_rules_have_what_prometheus_and_people_need() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names)) > 0
    for rule in rules():
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"].keys() == {"summary", "description"}
        assert "{{ $labels.output }}" in rule["annotations"]["summary"]


# Runs as Prometheus sees them, a value a minute, and the alerts after an hour and a half.
_RUNS = {
    "fails": ({"shards_failed_total": "0x80 1x20"}, {"UnlearnableShardsFailed"}),
    "hangs": (
        {"queue_depth": "5x100", "shards_in_work": "2x100", "samples": "100x100"},
        {"UnlearnableStandsStill"},
    ),
    "waits": (
        {"workers": "0x100", "queue_depth": "5x100", "shards_in_work": "0x100"},
        {"UnlearnableNoWorkers"},
    ),
    "loses": ({"losses_total": "0+1x100"}, {"UnlearnableNodesLost"}),
    "dies": ({"retries": "0+1x100"}, {"UnlearnableAttemptsRepeat"}),
    "throttled": ({"storage_retries_total": "0+90x100"}, {"UnlearnableStorageSlow"}),
    "works": (
        {
            "queue_depth": "100-1x100", "shards_in_work": "2x100", "samples_total": "0+500x100",
            "workers": "2x100", "retries_total": "0x50 1x50", "shards_failed_total": "0x100",
        },
        set(),
    ),
    "over": ({"queue_depth": "0x100", "shards_in_work": "0x100", "samples": "900x100"}, set()),
}  # fmt: skip


@pytest.mark.parametrize("run", _RUNS)
def test_alerts_fire_for_the_runs_that_they_are_for(run: str, tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("Debian's package `prometheus` brings promtool")
    done = subprocess.run(
        [promtool, "check", "rules", RULES], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    series, firing = _RUNS[run]
    annotations = {rule["alert"]: rule["annotations"] for rule in rules()}
    severity = {rule["alert"]: rule["labels"] for rule in rules()}

    def expected(name: str) -> list[dict[str, Any]]:
        told = {
            key: text.replace("{{ $labels.output }}", "/o")
            for key, text in annotations[name].items()
        }
        return [{"exp_labels": {**severity[name], "output": "/o"}, "exp_annotations": told}]

    alerts = [
        {
            "eval_time": "90m",
            "alertname": name,
            "exp_alerts": expected(name) if name in firing else [],
        }
        for name in annotations
    ]
    inputs = [
        {"series": f'ray_unlearnable_{name}{{output="/o"}}', "values": values}
        for name, values in series.items()
    ]
    one = {"interval": "1m", "input_series": inputs, "alert_rule_test": alerts}
    told = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [one]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(told))
    line = [promtool, "test", "rules", tmp_path / "test.yaml"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_grafana_takes_the_dashboard() -> None:
    model = pytest.importorskip("grafana_foundation_sdk.models.dashboard")
    found = model.Dashboard.from_json(dashboard())
    assert (found.uid, found.title) == ("unlearnable", "unlearnable")
    assert [variable.name for variable in found.templating.list_val] == ["datasource", "output"]
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
