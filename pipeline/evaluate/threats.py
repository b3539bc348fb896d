"""The threat table: what attacks leave of the protection, by who carries them out."""

from .attacks.catalogue import GROUPS, group_of
from .results import DIRECTIONS, Results

THREATS = (
    *("jpeg:75", "crawl", "down-up:2", "augment", "shuffle-words", "replace-caption", "share:50"),
    *("strip-trigger", "strip-trigger+gray", "jpeg:75+strip-trigger", "augment+strip-trigger"),
    *("gray", "blur:1", "median:3", "noise:8", "blur:2+gray", "blur:2+gray+strip-trigger"),
    *("notch", "notch+strip-trigger", "fold:8", "fold:8+strip-trigger"),
    *("average-highpass", "average-highpass+strip-trigger"),
    *("average-sign", "average-sign+strip-trigger", "project", "project+strip-trigger"),
    *("average-leaked:500", "average-leaked:500+strip-trigger"),
    *("purify:500", "purify:500+strip-trigger"),
    *("known-family:8", "known-family:8+strip-trigger", "known-family:8+strip-trigger+gray"),
    *("jpeg:75+known-family:8+strip-trigger", "jam:8", "jam:8+strip-trigger"),
    *("tool:600", "tool:600+strip-trigger"),
)
"""The rows of the table, as results call them."""

_HEAD = "| attack | image to text | text to image | the same on clean | share of clean |"


def threat_table(results: Results, protected: str, clean: str = "clean") -> str:
    """Return the table in Markdown, one part for each group, sorted by what is left of clean.

    Args:
        results: victims; threats that they lack are listed below the rows of their group.
        protected: name of the protected corpus.
        clean: name of the unprotected one, with the same attacks as far as they were measured.
    """
    parts = []
    for group, title in GROUPS.items():
        labels = [label for label in THREATS if group_of(label) == group]
        known = [one for one in labels if {f"{protected} | {one}", clean} <= set(results.names)]
        rows = sorted((_row(results, label, protected, clean) for label in known), reverse=True)
        parts.append(f"**{title}**")
        if rows:
            parts.append("\n".join([_HEAD, "|---|---:|---:|---:|---:|", *(row[1] for row in rows)]))
        if missing := [f"`{label}`" for label in labels if label not in known]:
            parts.append(f"Not measured: {', '.join(missing)}.")
    return "\n\n".join(parts)


def _row(results: Results, label: str, protected: str, clean: str) -> tuple[float, str]:
    """Return the share of clean and the line of a threat."""
    name, control = f"{protected} | {label}", f"{clean} | {label}"
    reference = control if control in results.names else clean
    shares, cells, whole = [], [], []
    for direction in DIRECTIONS:
        own = results.aggregate(name, "best", direction)["hit10"]
        other = results.aggregate(reference, "best", direction)["hit10"].mean
        several = f" ± {own.deviation:.1f}" if len(results.of(name)) > 1 else ""
        cells.append(f"{own.mean:.1f}{several}")
        whole.append(f"{other:.1f}")
        shares.append(own.mean / other)
    share = sum(shares) / len(shares)
    beside = " / ".join(whole) if reference == control else "not measured"
    return share, f"| `{label}` | {' | '.join(cells)} | {beside} | {100 * share:.0f} % |"
