"""`report`: one self-contained page about a protected copy, for those who would rather look."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ..data import storage
from ..data.card import setting, source_names
from ..data.ledger import LedgerRecord, committed, read_ledger
from ..data.plan import Plan, read_plan
from ..errors import UsageError
from ..evaluate.results import DIRECTIONS, Results, Spread, direction_of, read_cells
from ..evaluate.verdict import verdicts
from ..execution.status import StatusReport, run_status
from ..plotting import require_matplotlib
from . import plots
from .config import ReportConfig
from .figures import GAIN, Comparison
from .originals import find_comparisons
from .pages import gallery, render
from .tally import Tally, tally

_MAX_SAMPLES = 64
_SLOWEST = 8
_SHORTCUT = (
    "The change is small, though it can be seen on plain areas such as sky. A model that learns to "
    "match pictures with captions is meant to learn the change instead of the content."
)
_PURPOSE = {"random": "This is random noise, a control for comparison: it protects nothing."}


@dataclass(frozen=True)
class ReportSummary:
    """The page that was written, and what it could not show."""

    html: str
    notes: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([self.html, *(f"not shown: {note}" for note in self.notes)])


def report(config: ReportConfig) -> ReportSummary:
    """Write the page.

    Raises:
        UsageError: no run there, no results, no matplotlib, or originals asked for by ``against``
            that cannot be read.
        ViolationError: a manifest is damaged.
    """
    if not 0 <= config.samples <= _MAX_SAMPLES:
        raise UsageError(f"samples is {config.samples}; it must be 0..{_MAX_SAMPLES}")
    require_matplotlib()
    state = run_status(config.output, config.record)
    plan = read_plan(state.record)
    assert plan is not None
    results = _results(config.results)
    records = list(committed(plan, read_ledger(state.record)))
    counted = tally(state.record, [record.shard for record in records])
    shown, notes = find_comparisons(config, state.record, plan, records)
    page = render(
        "report.html.j2",
        title=storage.base_name(config.output) or config.output,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        state=state,
        plan=plan,
        facts=_facts(plan, state, counted) + _seen(shown),
        sentences=_sentences(plan, state, counted, results),
        samples=gallery(shown),
        gain=GAIN,
        notes=notes,
        plots=_plots(counted),
        results=_strength(results) if results is not None else None,
        counted=counted,
        slowest=sorted(records, key=lambda r: -r.timings.get("seconds", 0.0))[:_SLOWEST],
        provenance=_provenance(plan, records, counted),
        settings=json.dumps(plan.config, indent=1, sort_keys=True, ensure_ascii=False),
    )
    storage.write_bytes(config.html, page.encode())
    return ReportSummary(config.html, tuple(notes))


def _results(url: str | None) -> Results | None:
    if url is None:
        return None
    cells = read_cells(url)
    if not cells:
        raise UsageError(f"{url} holds no results; `unlearnable evaluate` writes them")
    return Results(tuple(cells))


def _facts(plan: Plan, state: StatusReport, counted: Tally) -> list[tuple[str, str, str]]:
    """Return (value, name, remark) of what stands in large figures at the top."""
    rows = counted.statuses.total()
    protected = counted.statuses["protected"]
    facts = [
        (f"{protected:,}", "images protected", f"{_share(protected, rows)} of those read"),
        (f"{rows - protected:,}", "left out", "listed below" if rows > protected else "nothing"),
        (f"{state.committed:,} of {state.shards:,}", "shards done", _bytes(state.bytes)),
    ]
    if counted.linf:
        largest = max(counted.linf)
        facts.append((f"±{largest}", "largest change", "of 255 levels, any pixel, any image"))
    if counted.psnr.total:
        median, low = counted.psnr.quantile(0.5), counted.psnr.quantile(0.01)
        facts.append(
            (f"{median:.1f} dB", "median PSNR", f"higher is closer; 99 of 100 above {low:.1f}")
        )
    words = setting(plan, "trigger_words")
    if words:
        facts.append((f"{words}", "trigger words", "in front of every caption"))
    return facts


def _seen(shown: Sequence[Comparison]) -> list[tuple[str, str, str]]:
    """Return how much an eye sees of the change, where that can be measured."""
    found = [sample.flip for sample in shown if sample.flip is not None]
    if not found:
        return []
    remark = f"of {len(found)} samples, worst {max(found):.3f}; 0 is equal, 1 black on white"
    return [(f"{sum(found) / len(found):.3f}", "mean FLIP", remark)]


def _sentences(
    plan: Plan, state: StatusReport, counted: Tally, results: Results | None
) -> list[str]:
    """Say in words what happened; the template escapes them."""
    rows, protected = counted.statuses.total(), counted.statuses["protected"]
    words = setting(plan, "trigger_words")
    captions = f" and {words} words were put in front of its captions" if words else ""
    found = [
        f"{protected:,} of {rows:,} images were protected: each was changed by at most "
        f"{setting(plan, 'epsilon')} of 255 brightness levels a pixel{captions}. "
        + _PURPOSE.get(str(setting(plan, "method")), _SHORTCUT)
    ]
    if left := rows - protected:
        are = "sample is" if left == 1 else "samples are"
        found.append(
            f"{left:,} {are} not protected; what is quarantined is not in the published shards."
        )
    if not state.complete:
        found.append(
            f"The run is not complete: {state.committed:,} of {state.shards:,} shards are done, "
            f"{len(state.failed):,} failed. Do not publish it yet."
        )
    if results is not None:
        found += verdicts(results)
    else:
        found.append("How strong this protection is has not been measured for this page.")
    return found


def _strength(results: Results) -> dict[str, Any]:
    """Return the table of strength: each corpus with its cells, then chance."""
    cell = results.cells[0]
    lines = []
    for name in results.names:
        several = len(results.of(name)) > 1
        line = [name]
        for direction in DIRECTIONS:
            last = results.aggregate(name, "last", direction)
            best = results.aggregate(name, "best", direction)
            line += [
                _spread(last["hit10"], several, 1),
                _spread(best["hit10"], several, 1),
                _spread(last["medr"], several, 0),
            ]
        lines.append(line)
    chance = ["chance"]
    for direction in DIRECTIONS:
        scores = direction_of(results.chance, direction)
        chance += [f"{scores.hit10:.1f}", f"{scores.hit10:.1f}", f"{scores.medr:.0f}"]
    config = cell.config
    seeds = sorted({other.seed for other in results.cells})
    return {
        "lines": [*lines, chance],
        "plot": plots.strength(results),
        "caption": (
            f"{cell.test_samples:,} clean test pictures with {cell.test_captions:,} captions; "
            f"victim {config.get('model', '?')}, {config.get('epochs', '?')} epochs, "
            + _seeds(seeds)
        ),
    }


def _seeds(seeds: Sequence[int]) -> str:
    if len(seeds) == 1:
        return f"one seed ({seeds[0]})."
    return f"mean and standard deviation over the seeds {', '.join(map(str, seeds))}."


def _spread(value: Spread, several: bool, digits: int) -> str:
    mean = f"{value.mean:.{digits}f}"
    return f"{mean} ± {value.deviation:.{digits}f}" if several else mean


def _plots(counted: Tally) -> list[tuple[str, Any]]:
    """Return (what it tells, plot) of each distribution that has values."""
    found: list[tuple[str, Any]] = []
    if counted.linf:
        label = "largest change of a pixel, of 255 levels"
        found.append(("How far pixels moved", plots.counts(counted.linf, label)))
    if counted.psnr.total:
        found.append(("Closeness to the original", plots.histogram(counted.psnr, "PSNR, dB")))
    if counted.ssim.total:
        label = "SSIM, 1 when equal"
        found.append(("Likeness of structure", plots.histogram(counted.ssim, label)))
    if counted.loss_before.total and counted.loss_after.total:
        label = "loss of the surrogate"
        pair = plots.two(counted.loss_before, counted.loss_after, label)
        found.append(("How hard a sample is to match", pair))
    if counted.words:
        found.append(("Trigger words", plots.words(counted.words, "samples with the word")))
    return found


def _provenance(
    plan: Plan, records: Sequence[LedgerRecord], counted: Tally
) -> list[tuple[str, str]]:
    started = [r.timings["started"] for r in records if "started" in r.timings]
    finished = [r.timings["finished"] for r in records if "finished" in r.timings]
    facts = [
        ("Owner", str(plan.request.get("owner") or "not stated")),
        ("Source", ", ".join(source_names(plan))),
        ("Method", f"{setting(plan, 'method')}, budget {setting(plan, 'epsilon')} of 255 levels"),
        ("Strength", str(plan.config.get("strength") or "none")),
        ("Image format", str(setting(plan, "image_format"))),
        ("Program", f"unlearnable {plan.version}"),
        ("Configuration", plan.config_hash),
        ("Surrogate", ", ".join(sorted(counted.surrogates)) or "none"),
        ("Seed", str(setting(plan, "seed"))),
    ]
    if started and finished:
        facts.append(("Made", f"{_moment(min(started))} to {_moment(max(finished))}"))
    return facts


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.4g} %" if whole else "none"


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            break
        size /= 1000
    return f"{size:.3g} {unit}"
