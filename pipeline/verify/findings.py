"""Violations of a protected copy, and the bounded list that they are gathered in."""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from .sampling import ShardSample

CODES = {
    "plan_damaged": "the plan's configuration does not hash to its config hash",
    "not_finished": "no _SUCCESS mark of this plan",
    "nothing_protected": "the copy holds no protected sample",
    "index_mismatch": "index.json is not the index of this ledger",
    "card_mismatch": "README.md or croissant.json is missing or tells something else",
    "mark_mismatch": "_PUBLISHED is the mark of another index",
    "unexpected_file": "a shard, manifest or record that the plan does not name",
    "ledger_missing": "a planned shard without a record",
    "ledger_mismatch": "a record that contradicts the plan or the manifest",
    "shard_failed": "a shard that the run could not protect",
    "shard_unreadable": "a published shard is missing, truncated or no valid archive",
    "shard_changed": "a published shard has another size or sha256 than its record says",
    "manifest_unreadable": "a manifest is missing or damaged",
    "manifest_changed": "a manifest has another size or sha256 than its record says",
    "manifest_foreign": "a manifest of another run, shard or surrogate",
    "not_checked": "a shard whose check did not end: the store or the worker failed, or it hung",
    "row_invalid": "a manifest row that contradicts the run's configuration or its neighbours",
    "sample_missing": "a manifest row says published, the shard does not hold the sample",
    "sample_added": "a published sample without a manifest row, or one that was quarantined",
    "sample_order": "published samples stand in another order than the manifest's rows",
    "sample_unreadable": "a published sample exceeds the limits of its members",
    "image_unreadable": "a published sample has not exactly one image that decodes",
    "image_unprotected": "a published sample holds a picture beside the one that is protected",
    "original_shown": "a published picture carries a thumbnail, a gain map or a second picture",
    "colour_changed": "profile, colour chunks, transparency or greyness differ from the original's",
    "rights_changed": "rights, credit or other metadata differ from what the run promised",
    "image_changed": "a published image has another sha256, size or format than its row says",
    "budget_exceeded": "a pixel differs from the original by more than epsilon",
    "measure_mismatch": "linf, l2, psnr or ssim differ from the row's when measured again",
    "caption_unreadable": "the captions of a published sample cannot be read",
    "trigger_missing": "a caption does not start with its trigger",
    "trigger_ids": "a caption's first tokens are not the trigger's",
    "input_missing": "a planned shard is not in the input",
    "input_not_planned": "a shard of the input is not in the plan",
    "input_unreadable": "a shard of the input is missing, truncated or no valid archive",
    "input_changed": "an input shard has another sha256 than when it was protected",
    "input_image_changed": "an input image has another sha256 than its row says",
    "row_missing": "an input sample without a manifest row",
    "row_without_input": "a manifest row whose sample is not in the input at that place",
    "member_changed": "members, captions included, are not the input's with the trigger",
    "sidecar_missing": "a crawler's table or counts beside an input shard, not beside its copy",
    "sidecar_mismatch": "a crawler's table or counts contradict the manifest or the input's",
    "not_compared": "samples too far from their place to be compared with the input",
}
"""What `verify` can find, by code."""


@dataclass(frozen=True)
class Violation:
    """One broken promise.

    Attributes:
        code: one of ``CODES``.
        shard: shard name; empty for the whole copy.
        key: sample key; empty for the whole shard.
        message: what was found, for people.
    """

    code: str
    shard: str
    key: str
    message: str

    def __str__(self) -> str:
        place = " ".join(part for part in (self.shard, self.key) if part)
        return f"{self.code}: {place + ': ' if place else ''}{self.message}"


@dataclass(frozen=True)
class VerifyReport:
    """What `verify` found.

    Attributes:
        output: URL that was verified.
        against: URL of the originals, or None.
        shards: shards looked at.
        samples: published samples looked at.
        counts: violations by code, all of them.
        violations: the first ones, as many as were asked for.
        seconds: how long it took.
        sample: what the shards looked at tell of all; None when all were looked at.
        unchecked: what could not be checked, and why.
    """

    output: str
    against: str | None
    shards: int
    samples: int
    counts: dict[str, int]
    violations: list[Violation]
    seconds: float = 0.0
    sample: ShardSample | None = None
    unchecked: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 when every promise is kept, 3 when all that is wrong is unchecked shards, else 4."""
        if set(self.counts) == {"not_checked"}:
            return 3
        return 4 if self.counts else 0

    def to_json(self) -> str:
        """Return the report for machines."""
        content: dict[str, Any] = asdict(self) | {"exit_code": self.exit_code}
        return json.dumps(content, indent=1)

    def __str__(self) -> str:
        total = sum(self.counts.values())
        lines = [str(violation) for violation in self.violations]
        if total > len(lines):
            lines.append(f"... and {total - len(lines)} more")
        lines += [f"{count} x {code}: {CODES[code]}" for code, count in self.counts.items()]
        lines += [f"not checked: {what}" for what in self.unchecked]
        compared = (
            "compared with their originals" if self.against else "checked without the originals"
        )
        # The last line is what an alert shows of it.
        first = f", the first: {self.violations[0]}" if self.violations else ""
        verdict = f"{total} violation{'s' if total > 1 else ''}{first}" if total else "no violation"
        lines.append(f"{self.samples} samples in {self.shards} shards {compared}: {verdict}")
        if self.sample is not None:
            lines.append(str(self.sample))
        return "\n".join(lines)


class Findings:
    """Gathers violations; keeps the first ``limit`` and counts all. Small, and picklable."""

    def __init__(self, limit: int, shard: str = "") -> None:
        self._limit = limit
        self.shard = shard
        self.violations: list[Violation] = []
        self.counts: Counter[str] = Counter()
        self.samples = 0

    def add(self, code: str, shard: str, key: str, message: str) -> None:
        """Record one violation."""
        assert code in CODES, f"undocumented violation {code}"
        self.counts[code] += 1
        if len(self.violations) < self._limit:
            self.violations.append(Violation(code, shard, key, message))

    def take_in(self, part: "Findings") -> None:
        """Add what was found in one shard."""
        self.counts += part.counts
        self.samples += part.samples
        self.violations += part.violations[: self._limit - len(self.violations)]
