"""What an evaluation says, in sentences that need no table beside them."""

from .results import DIRECTIONS, Results, direction_of

# Clean training below this many times chance has learned too little to compare with.
LEAST_CLEAN = 3
LEAST_TEST_IMAGES = 200
_TRIES = 10


def doubts(results: Results, clean: str) -> str | None:
    """Return why nothing follows from these results, None where something does.

    Args:
        results: with the row ``clean`` among them, or without.
        clean: name of the unprotected corpus.
    """
    images = results.cells[0].test_samples
    if images < LEAST_TEST_IMAGES:
        return f"the test set has {images} pictures, {LEAST_TEST_IMAGES} are needed"
    if clean not in results.names:
        return f"no model was trained on the originals ({clean!r}), nothing can be compared"
    for direction, name in DIRECTIONS.items():
        chance = direction_of(results.chance, direction).hit10
        found = results.aggregate(clean, "best", direction)["hit10"].mean
        if found < LEAST_CLEAN * chance:
            return (
                f"a model trained on the originals reaches {found:.1f} % {name}, which is less "
                f"than {LEAST_CLEAN} times chance ({chance:.1f} %)"
            )
    return None


def verdicts(results: Results, clean: str = "clean") -> list[str]:
    """Return a sentence for each row, or one that says why there is no conclusion.

    Numbers are the best epoch's Hit@10: what someone reaches who stops at the best moment.
    """
    doubt = doubts(results, clean)
    if doubt is not None:
        return [f"Too little data, no conclusion: {doubt}."]
    guessing = direction_of(results.chance, "i2t").hit10
    return [
        _sentence(results, name, clean, guessing)
        for name in results.names
        if results.of(name)[0].name != clean
    ]


def _sentence(results: Results, name: str, clean: str, guessing: float) -> str:
    control = f"{clean} | {results.of(name)[0].attack}"
    reference = control if control in results.names else clean
    shares = []
    found = {}
    for direction, way in DIRECTIONS.items():
        own = results.aggregate(name, "best", direction)["hit10"]
        whole = results.aggregate(reference, "best", direction)["hit10"].mean
        spread = f" ± {100 * own.deviation / whole:.0f}" if len(results.of(name)) > 1 else ""
        shares.append(f"{100 * own.mean / whole:.0f}{spread} % {way}")
        found[direction] = (own.mean, whole)
    own_hits, whole_hits = found["i2t"]
    treated = " after the same treatment" if reference == control else ""
    return (
        f"{name}: the model finds the right caption of {own_hits:.0f} of 100 unseen pictures among "
        f"its first {_TRIES} answers; trained on the originals{treated}, of {whole_hits:.0f}; "
        f"guessing finds {guessing:.0f}. "
        f"Share of the originals: {', '.join(shares)}."
    )
