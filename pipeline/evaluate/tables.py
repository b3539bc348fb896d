"""Results as tables, in text and in Markdown."""

from .config import EvaluateConfig
from .evaluate import evaluate
from .results import DIRECTIONS, MEASURES, Results, Spread, direction_of
from .verdict import verdicts

_HEADS = ("Hit@1", "Hit@5", "Hit@10", "MedR")


def evaluated(config: EvaluateConfig) -> str:
    """Train and test as `evaluate`; return the table and what follows from it."""
    return text_table(evaluate(config))


def text_table(results: Results) -> str:
    """Return the table for a terminal: last and best epoch of each row, then chance."""
    rows = [["corpus", "epoch", *_HEADS, *_HEADS], *_rows(results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]

    def line(row: list[str]) -> str:
        cells = [
            text.ljust(width) if column < 2 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(cells[:2]) + "   " + "  ".join(cells[2:6]) + "   " + "  ".join(cells[6:])

    left = sum(widths[:2]) + 5
    middle = sum(widths[2:6]) + 6
    above = " " * left + DIRECTIONS["i2t"].ljust(middle + 3) + DIRECTIONS["t2i"]
    lines = [_caption(results), "", above, line(rows[0]), "-" * len(line(rows[0]))]
    told = ["", *probe_lines(results), "", *verdicts(results)]
    return "\n".join([*lines, *(line(row) for row in rows[1:]), *told]) + "\n"


def markdown_table(results: Results) -> str:
    """Return the same table in Markdown."""
    return "\n".join([_caption(results), "", *markdown_rows(results)]) + "\n"


def markdown_rows(results: Results) -> list[str]:
    """Return its lines without what stands above it."""
    heads = [f"{DIRECTIONS[direction]} {head}" for direction in DIRECTIONS for head in _HEADS]
    rows = [["corpus", "epoch", *heads], ["---", "---", *["---:"] * 8], *_rows(results)]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]


def probe_lines(results: Results) -> list[str]:
    """Return what the probe finds in each row, and what a random order gives."""
    found = [(name, results.probe(name)) for name in results.names]
    known = [(name, value) for name, value in found if value is not None]
    one = results.cells[0].probe
    if not known or one is None:
        return []
    parts = [f"{name} {_number('', value, len(results.of(name)) > 1)}" for name, value in known]
    text = f"Linear probe of the image tower for {one.words} words of the captions"
    rows = f"mean average precision in %: {'; '.join(parts)}; a random order {one.chance:.1f}"
    return [f"{text}, {rows}."]


def _caption(results: Results) -> str:
    cell = results.cells[0]
    config = cell.config
    seeds = sorted({cell.seed for cell in results.cells})
    spread = f", seed {seeds[0]}"
    if len(seeds) > 1:
        spread = f", mean ± standard deviation over seeds {', '.join(map(str, seeds))}"
    copies = len({cell.copy for cell in results.cells})
    if copies > 1:
        spread += f" and {copies} copies with keys of their own"
    start = "from given weights" if "init_sha256" in config else "from scratch"
    protocol = (
        f"victim {config['model']} {config['image_size']} px {start}, "
        f"{config['epochs']} epochs, batch {config['batch_size']}, lr {config['lr']:g}"
    )
    return (
        f"Retrieval on {cell.test_samples} clean images with {cell.test_captions} captions; "
        f"Hit@k in %, MedR in ranks{spread}; {protocol}. "
        "Best: each direction's best epoch by Hit@10."
    )


def _rows(results: Results) -> list[list[str]]:
    rows = []
    for name in results.names:
        several = len(results.of(name)) > 1
        for epoch in ("last", "best"):
            row = [name if epoch == "last" else "", epoch]
            for direction in DIRECTIONS:
                found = results.aggregate(name, epoch, direction)
                row += [_number(measure, found[measure], several) for measure in MEASURES]
            rows.append(row)
    chance = [
        _number(
            measure, Spread(getattr(direction_of(results.chance, direction), measure), 0), False
        )
        for direction in DIRECTIONS
        for measure in MEASURES
    ]
    return [*rows, ["chance", "", *chance]]


def _number(measure: str, value: Spread, several: bool) -> str:
    digits = 0 if measure == "medr" else 1
    mean = f"{value.mean:.{digits}f}"
    return f"{mean} ± {value.deviation:.{digits}f}" if several else mean
