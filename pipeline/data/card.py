"""The card of a published corpus: ``README.md`` for people, ``croissant.json`` for programs.

Both are pure functions of plan, ledger, owner and day of publication, so that a check can
write them again and compare. They are public: they name no trigger, seed or key, and no hash of an
original, a surrogate or a configuration, from which a seed could be guessed.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from . import storage
from .croissant import FILES, croissant_pieces
from .images import budget_policy
from .json_pieces import read_before
from .ledger import LedgerRecord, committed
from .plan import Plan

README_NAME = "README.md"
CROISSANT_NAME = "croissant.json"
TDM_NAME = "tdmrep.json"
"""The reservation of text and data mining (W3C TDMRep); servers give it below ``/.well-known``."""
_TDM = '[{"location": "*", "tdm-reservation": 1}]\n'
_FORMATS = {"same": "files of the format that they came in"}
_NO_OWNER = "not stated"
_TITLE = "A protected copy of an image-caption corpus"
_COUNTS = ("samples", "protected", "quarantined")
_README = """# {title}

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


def write_card(
    output: str, plan: Plan, ledger: Mapping[str, LedgerRecord], owner: str | None
) -> None:
    """Write ``README.md`` and ``croissant.json``; a rewrite keeps the day of first publication.

    Args:
        output: output prefix.
        plan: its plan.
        ledger: records by shard name; only those committed under the plan's configuration count.
        owner: statement of who publishes the copy, or None.
    """
    before, _ = _read_croissant(output)
    published = before.get("datePublished") or datetime.now(UTC).date().isoformat()
    for name, pieces in _card(plan, ledger, owner or _NO_OWNER, str(published)).items():
        storage.write_pieces(storage.join(output, name), pieces)


def check_card(output: str, plan: Plan, ledger: Mapping[str, LedgerRecord]) -> list[str]:
    """Return what is wrong with the card of an output, as messages; empty when it is as written.

    Owner and day of publication are taken from the card, everything else from plan and ledger.
    """
    found, problem = _read_croissant(output)
    if problem:
        return [problem]
    owner = found.get("creator", {}).get("name", "")
    published = str(found.get("datePublished"))
    problems = []
    for name, pieces in _card(plan, ledger, str(owner), published).items():
        url = storage.join(output, name)
        try:
            same = storage.holds(url, pieces)
        except OSError:
            problems.append(f"{url} is missing")
        else:
            if not same:
                problems.append(f"{url} does not describe what plan and ledger record")
    return problems


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
    return found, ""


def _card(
    plan: Plan, ledger: Mapping[str, LedgerRecord], owner: str, published: str
) -> dict[str, Iterable[bytes]]:
    """Return the content of each file of the card, in pieces."""
    description = _description(plan)
    croissant = croissant_pieces(
        committed(plan, ledger),
        title=_TITLE,
        description=description,
        owner=owner,
        published=published,
        sources=source_names(plan),
        cite_as=f"{owner} ({published[:4]}). {_TITLE}, made by unlearnable {plan.version}.",
    )
    readme = _readme(plan, committed(plan, ledger), description, owner, published)
    card: dict[str, Iterable[bytes]] = {
        README_NAME: [readme.encode()],
        CROISSANT_NAME: croissant,
    }
    return card | {TDM_NAME: [_TDM.encode()]} if setting(plan, "reserve") else card


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
    plan: Plan, records: Iterator[LedgerRecord], description: str, owner: str, published: str
) -> str:
    total: Counter[str] = Counter()
    for record in records:
        total.update({name: getattr(record, name) for name in _COUNTS}, shards=1)
    facts = {
        "Owner statement": " ".join(owner.replace("|", " ").split()),
        "Published": published,
        "Source": _source(plan),
        "Shards": f"{total['shards']} of {len(plan.shards)}",
        "Samples read": total["samples"],
        "Protected": total["protected"],
        "Quarantined, not published": total["quarantined"],
        "Budget": budget_policy(int(setting(plan, "epsilon"))),
        "Program": f"unlearnable {plan.version}",
    }
    if setting(plan, "reserve"):
        facts["Text and data mining"] = (
            f"prohibited: `plus:DataMining` in the XMP of every picture, and `{TDM_NAME}`"
        )
    image_format = str(setting(plan, "image_format"))
    return _README.format(
        title=_TITLE,
        description=description,
        facts="\n".join(f"| {name} | {value} |" for name, value in facts.items()),
        image_format=_FORMATS.get(image_format, image_format),
    )


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
