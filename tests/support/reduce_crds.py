"""Reduce KubeRay's CRDs to the JSON schema that the manifests of jobs/kubernetes are tested with.

    git clone --depth 1 --branch v1.7.0 https://github.com/ray-project/kuberay
    python tests/support/reduce_crds.py v1.7.0 kuberay/ray-operator/config/crd/bases OUTPUT.json

Kept is what accepts or refuses a manifest: types, required fields, enums, limits. Texts, defaults
and rules in CEL go; a field that the schema does not know is refused, as by `kubectl
--validate=strict`. Equal parts, such as the five pod templates of a RayJob, are written once.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

KINDS = {"RayJob": "ray.io_rayjobs.yaml", "RayCronJob": "ray.io_raycronjobs.yaml"}
VERSION = "v1"
_KEPT = {
    "type", "properties", "additionalProperties", "items", "required", "enum", "anyOf", "pattern",
    "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems",
}  # fmt: skip
_SHARED_FROM = 300

Schema = dict[str, Any]


def strict(schema: Schema) -> Schema:
    """Return ``schema`` without what decides nothing, closed to unknown fields."""
    kept = _change_parts({key: value for key, value in schema.items() if key in _KEPT}, strict)
    if "properties" in kept and not schema.get("x-kubernetes-preserve-unknown-fields"):
        kept.setdefault("additionalProperties", False)
    return kept


def share(schemas: Schema) -> Schema:
    """Return ``schemas`` as ``kinds``, with large equal parts moved to ``$defs``."""
    counts: Counter[str] = Counter()
    shared: Schema = {}

    def count(schema: Schema) -> None:
        name = _name(schema)
        counts[name] += 1
        if counts[name] == 1:
            _change_parts(schema, count)

    def point(schema: Schema) -> Schema:
        name = _name(schema)
        if counts[name] == 1 or len(json.dumps(schema)) < _SHARED_FROM:
            return _change_parts(schema, point)
        if name not in shared:
            shared[name] = {}
            shared[name] = _change_parts(schema, point)
        return {"$ref": f"#/$defs/{name}"}

    for schema in schemas.values():
        count(schema)
    return {"kinds": {kind: point(schema) for kind, schema in schemas.items()}, "$defs": shared}


def _name(schema: Schema) -> str:
    return hashlib.sha256(json.dumps(schema, sort_keys=True).encode()).hexdigest()[:8]


def _change_parts(schema: Schema, change: Callable[[Schema], Any]) -> Schema:
    """Return ``schema`` with ``change`` applied to the schemas directly inside it."""
    changed = dict(schema)
    if "properties" in changed:
        changed["properties"] = {k: change(v) for k, v in changed["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(changed.get(key), dict):
            changed[key] = change(changed[key])
    return changed


def as_text(reduced: Schema) -> str:
    """Return JSON with a part a line: a new release shows what it changes."""
    entries = []
    for key, value in reduced.items():
        if isinstance(value, dict):
            parts = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())
            entries.append(f"{json.dumps(key)}: {{\n{parts}\n}}")
        else:
            entries.append(f"{json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(entries) + "\n}\n"


def main(release: str, folder: str, output: str) -> None:
    schemas = {}
    for kind, file in KINDS.items():
        crd = yaml.safe_load((Path(folder) / file).read_text())
        (version,) = (v for v in crd["spec"]["versions"] if v["name"] == VERSION)
        schema = version["schema"]["openAPIV3Schema"]
        schema["properties"].pop("status", None)
        schemas[kind] = strict(schema)
    source = f"github.com/ray-project/kuberay {release}, ray-operator/config/crd/bases"
    reduced = {"source": source, "licence": "Apache-2.0", **share(schemas)}
    Path(output).write_text(as_text(reduced))


if __name__ == "__main__":
    main(*sys.argv[1:])
