import pytest

from unlearnable.pipeline.evaluate.attacks.catalogue import group_of, parse_attacks
from unlearnable.pipeline.evaluate.results import Results, VictimResult
from unlearnable.pipeline.evaluate.retrieval import Retrieval, Scores, chance
from unlearnable.pipeline.evaluate.threats import THREATS, threat_table
from unlearnable.pipeline.evaluate.victim import EpochPoint


def victim(name: str, attack: str | None, hit10: float, seed: int = 0) -> VictimResult:
    scores = Scores(0, 0, hit10, 10)
    curve = [EpochPoint(1, None, Retrieval(scores, scores))]
    guess = chance([1] * 100)
    return VictimResult(name, seed, {}, curve, guess, 9, 0, 100, 100, 1.0, "cpu", {}, attack)


def test_threats_stand_by_who_attacks_and_by_what_is_left() -> None:
    cells = (
        victim("clean", None, 20),
        victim("clean", "gray", 10),
        victim("p", "strip-trigger", 5),
        victim("p", "gray", 4),
        victim("p", "jpeg:75", 2, 0),
        victim("p", "jpeg:75", 4, 1),
    )
    table = threat_table(Results(cells), "p")
    lines = table.splitlines()
    gray, strip = "| `gray` | 4.0 | 4.0 | 10.0 / 10.0 | 40 % |", "| `strip-trigger` | 5.0 | 5.0 |"
    assert lines.index(gray) < next(n for n, line in enumerate(lines) if line.startswith(strip))
    assert "| `jpeg:75` | 3.0 ± 1.4 | 3.0 ± 1.4 | not measured | 15 % |" in lines
    assert lines[-1].startswith("Not measured: `known-family:8`, ")
    assert "`jpeg:75`" not in "".join(line for line in lines if line.startswith("Not measured"))
    heads = [table.index(text) for text in ("Anyone's", "knows that", "reads this")]
    assert heads == sorted(heads)


@pytest.mark.parametrize("label", THREATS)
def test_a_threat_is_written_as_its_results_are(label: str) -> None:
    assert str(parse_attacks((label,))[0]) == label


def test_the_one_who_knows_most_gives_a_chain_its_group() -> None:
    assert group_of("jpeg:75+gray") == "knows"
    assert group_of("gray+known-family:8+strip-trigger") == "reads"
    assert group_of("share:50, the rest alone") == "anyone"
