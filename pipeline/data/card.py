"""The card of a published corpus: ``README.md`` for people, ``croissant.json`` for programs.

Both are pure functions of plan, ledger, the owner's statements and the day of publication, so that
a check can write them again and compare. They are public: they name no trigger, seed or key, and no
hash of an original, a surrogate or a configuration, from which a seed could be guessed.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import yaml

from . import storage
from .croissant import FILES, croissant_pieces
from .images import budget_policy
from .json_pieces import read_before
from .ledger import INDEX_NAME, LedgerRecord, committed
from .plan import Plan
from .statements import TITLE, Statements
from .urls import is_text

README_NAME = "README.md"
CROISSANT_NAME = "croissant.json"
TDM_NAME = "tdmrep.json"
"""The reservation of text and data mining (W3C TDMRep); servers give it below ``/.well-known``."""
_TDM = '[{"location": "*", "tdm-reservation": 1}]\n'
_FORMATS = {"same": "files of the format that they came in"}
# What the head of a file of ours holds.
_HEAD = 1 << 14
_MARKS = {
    README_NAME: (b"Images: a perturbation was added",),
    CROISSANT_NAME: (b"ade by unlearnable",),
    INDEX_NAME: (b'"wids_version"', b'"quarantined"'),
}
# A dataset of the Hub, with its shards in its folder or below.
_HUB_SOURCE = re.compile(r"hf://datasets/([^/@]+/[^/@]+)")
_SPLIT = re.compile(r"(train|validation|val|dev|test)-")
_COUNTS = ("samples", "protected", "quarantined")
_README = """---
{header}---

# {title}

{description}

| | |
|---|---|
{facts}

## What was done

Images: a perturbation was added and the result stored as {image_format}. Colour profiles and
statements of rights and credit are those of the source; thumbnails were dropped. Captions: the
trigger, if there is one, was put in front of each. Other members, keys and their order are those of
the source. Tables and counts that a crawler left beside the source's shards (`<shard>.parquet`,
`<shard>_stats.json`) describe the published files here.

## Verify

```
unlearnable verify <this folder>
```

It compares every shard with `index.json` and decodes every sample. What was done to each sample is
in a record that only the owner keeps.
"""


def protected_by(folder: str) -> str | None:
    """Return the name of a file in ``folder`` that says that it is a protected copy, if any."""
    for name, marks in _MARKS.items():
        try:
            with storage.open_read(storage.join(folder, name)) as file:
                head = file.read(_HEAD)
        except OSError:
            continue
        if all(mark in head for mark in marks):
            return name
    return None


def write_card(
    output: str, plan: Plan, ledger: Mapping[str, LedgerRecord], statements: Statements
) -> None:
    """Write ``README.md`` and ``croissant.json``; a rewrite keeps the day of first publication.

    Args:
        output: output prefix.
        plan: its plan; whether text and data mining is reserved is taken from there.
        ledger: records by shard name; only those committed under the plan's configuration count.
        statements: what the owner states.
    """
    before, _ = _read_croissant(output)
    published = before.get("datePublished") or datetime.now(UTC).date().isoformat()
    for name, pieces in _card(plan, ledger, statements, str(published)).items():
        storage.write_pieces(storage.join(output, name), pieces)


def check_card(output: str, plan: Plan, ledger: Mapping[str, LedgerRecord]) -> list[str]:
    """Return what is wrong with the card of an output, as messages; empty when it is as written.

    Statements and day of publication are taken from the card, all else from plan and ledger.
    """
    found, problem = _read_croissant(output)
    if problem:
        return [problem]
    stated = Statements.read(found)
    published = str(found.get("datePublished"))
    problems = []
    for name, pieces in _card(plan, ledger, stated, published).items():
        url = storage.join(output, name)
        try:
            same = storage.holds(url, pieces)
        except OSError:
            problems.append(f"{url} is missing")
        else:
            if not same:
                problems.append(f"{url} does not describe what plan and ledger record")
    return problems


def _is_reserved(plan: Plan) -> bool:
    return bool(setting(plan, "reserve"))


def _read_croissant(output: str) -> tuple[dict[str, Any], str]:
    """Return the head of the croissant file and "", or nothing and what is wrong with it."""
    url = storage.join(output, CROISSANT_NAME)
    try:
        with storage.open_read(url) as file:
            found = read_before(file, FILES)
    except OSError:
        return {}, f"{url} is missing"
    except (ValueError, RecursionError) as error:
        return {}, f"{url} is not JSON ({error})"
    if not isinstance(found, dict) or not isinstance(found.get("creator", {}), dict):
        return {}, f"{url} is not a description of a dataset"
    if not is_text(json.dumps(found, ensure_ascii=False)):
        return {}, f"{url} holds a text that UTF-8 cannot hold"
    return found, ""


def _card(
    plan: Plan, ledger: Mapping[str, LedgerRecord], stated: Statements, published: str
) -> dict[str, Iterable[bytes]]:
    """Return the content of each file of the card, in pieces."""
    description = _description(plan)
    croissant = croissant_pieces(
        committed(plan, ledger),
        stated,
        reserved=_is_reserved(plan),
        description=description,
        published=published,
        sources=source_names(plan),
        activity=f"Protection against contrastive training, method {setting(plan, 'method')}",
        program=f"unlearnable {plan.version}",
    )
    readme = _readme(plan, committed(plan, ledger), description, stated, published)
    card: dict[str, Iterable[bytes]] = {
        README_NAME: [readme.encode()],
        CROISSANT_NAME: croissant,
    }
    return card | {TDM_NAME: [_TDM.encode()]} if _is_reserved(plan) else card


def _description(plan: Plan) -> str:
    epsilon, words = setting(plan, "epsilon"), setting(plan, "trigger_words")
    captions = f", and {words} trigger words stand in front of every caption" if words else ""
    return (
        f"Image-caption pairs from {_source(plan)}. Every image was changed by at most {epsilon} "
        f"of 255 levels a pixel{captions}, so that models trained contrastively on the pairs learn "
        f"the change and not the content. Made by unlearnable {plan.version}, "
        f"method {setting(plan, 'method')}."
    )


def _readme(
    plan: Plan,
    records: Iterator[LedgerRecord],
    description: str,
    stated: Statements,
    published: str,
) -> str:
    total: Counter[str] = Counter()
    for record in records:
        total.update({name: getattr(record, name) for name in _COUNTS}, shards=1)
    facts = {
        **stated.facts(reserved=_is_reserved(plan)),
        "Published": published,
        "Source": _source(plan),
        "Shards": f"{total['shards']} of {len(plan.shards)}",
        "Samples read": total["samples"],
        "Protected": total["protected"],
        "Quarantined, not published": total["quarantined"],
        "Strength": str(plan.config.get("strength") or "none"),
        "Budget": budget_policy(
            int(setting(plan, "epsilon")), float(plan.config.get("floor", 1.0))
        ),
        "Program": f"unlearnable {plan.version}",
    }
    image_format = str(setting(plan, "image_format"))
    header = hub_header(plan, stated, total["samples"] - total["quarantined"])
    return _README.format(
        header=yaml.safe_dump(header, sort_keys=False, allow_unicode=True, width=100),
        title=" ".join((stated.title or TITLE).split()),
        description=description,
        facts="\n".join(f"| {name} | {value} |" for name, value in facts.items()),
        image_format=_FORMATS.get(image_format, image_format),
    )


def hub_header(plan: Plan, stated: Statements, samples: int) -> dict[str, Any]:
    """Return the YAML header by which the Hugging Face Hub lists and loads a dataset.

    ``configs`` names the shards: without it the Hub takes the JSON files beside them for the data.

    Args:
        plan: what was protected.
        stated: what the owner states.
        samples: published samples.
    """
    hub = [match[1] for name in source_names(plan) if (match := _HUB_SOURCE.match(name))]
    splits = _splits(shard.name for shard in plan.shards)
    files = [{"split": split, "path": path} for split, path in splits.items()]
    return {
        **stated.hub(),
        "task_categories": ["image-to-text", "text-to-image"],
        "size_categories": [_size_category(samples)],
        **({"source_datasets": sorted(set(hub))} if hub else {}),
        "tags": ["webdataset", "image-text-pairs", "unlearnable-examples"],
        "configs": [{"config_name": "default", "data_files": files}],
    }


def _splits(names: Iterable[str]) -> dict[str, str]:
    """Return a pattern of shards by split; one split unless each name begins with its own."""
    found: dict[str, str] = {}
    for name in names:
        match = _SPLIT.match(name)
        if match is None:
            return {"train": "*.tar"}
        found[match[1]] = f"{match[1]}-*.tar"
    return found


def _size_category(samples: int) -> str:
    """Return the Hub's name of a size."""
    marks = ["1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T"]
    step = max(0, len(str(samples)) - 3)
    if step == 0:
        return "n<1K"
    return f"{marks[step - 1]}<n<{marks[step]}" if step < len(marks) else "n>1T"


def _source(plan: Plan) -> str:
    return ", ".join(f"`{name}`" for name in source_names(plan))


def source_names(plan: Plan) -> list[str]:
    """Name the folders of the input; of local ones only the last part, for the card is public."""
    folders = sorted({shard.url.rsplit("/", 1)[0] for shard in plan.shards})
    shown = [url if storage.local_path(url) is None else storage.base_name(url) for url in folders]
    return list(dict.fromkeys(shown))


def setting(plan: Plan, name: str) -> Any:
    """Return a setting of the run, also one of the method's own; None when there is none."""
    nested = [value for value in plan.config.values() if isinstance(value, dict)]
    return next((level[name] for level in (plan.config, *nested) if name in level), None)
