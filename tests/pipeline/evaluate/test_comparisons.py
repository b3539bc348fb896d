import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from unlearnable.pipeline.data.manifest import manifest_url, read_manifest
from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.evaluate.attacks.catalogue import KINDS, Attack, Kind
from unlearnable.pipeline.evaluate.attacks.inputs import Inputs
from unlearnable.pipeline.evaluate.comparisons import Comparison, Step, comparisons_of
from unlearnable.pipeline.evaluate.config import EvaluateConfig
from unlearnable.pipeline.evaluate.corpora import Corpora, augmentation
from unlearnable.pipeline.evaluate.evaluate import evaluate
from unlearnable.pipeline.evaluate.pairs import Pairs
from unlearnable.pipeline.evaluate.results import read_cells
from unlearnable.pipeline.evaluate.results_csv import append, read_victims
from unlearnable.pipeline.execution.config import ProtectConfig
from unlearnable.pipeline.execution.protect import protect


@pytest.fixture(scope="module")
def published(corpus: Path, surrogate: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What `protect` really writes for the corpus: triggers of three words, manifests."""
    output = str(tmp_path_factory.mktemp("published") / "protected")
    config = ProtectConfig(str(corpus), output, surrogate=surrogate, executor="local")
    assert protect(config).exit_code == 0
    return output


@pytest.fixture
def config(corpus: Path, published: str) -> EvaluateConfig:
    return EvaluateConfig(
        train=(f"clean={corpus}", f"protected={published}"), test=str(corpus), output="unused"
    )


def row(config: EvaluateConfig, attack: str, name: str = "protected") -> Comparison:
    rows = comparisons_of(replace(config, attack=(attack,)))
    return next(row for row in rows if row.steps and row.corpus == name)


def corpora(config: EvaluateConfig, folder: Path, size: int = 16) -> Corpora:
    return Corpora(config, size, str(folder), torch.device("cpu"))


def test_every_corpus_is_evaluated_once_more_under_each_attack(config: EvaluateConfig) -> None:
    rows = comparisons_of(replace(config, attack=("jpeg:50", "share", "share:100", "purify:20")))
    assert [row.label for row in rows] == [
        "clean",
        "protected",
        "clean | jpeg:50",
        "protected | jpeg:50",
        "clean | share:50, the rest alone",
        "protected | share:50",
        "protected | share:100",
        "protected | purify:20",
    ]
    assert all("attack" not in row.identity() for row in rows[:2])
    assert len({str(row.identity()) for row in rows}) == len(rows)


def test_the_clean_corpus_must_be_named(config: EvaluateConfig, corpus: Path) -> None:
    renamed = replace(config, train=(f"original={corpus}", config.train[1]), attack=("share:10",))
    with pytest.raises(UsageError, match=r"'clean' is none of original, protected"):
        comparisons_of(renamed)
    labels = [row.label for row in comparisons_of(replace(renamed, clean="original"))]
    assert labels[2:] == ["original | share:10, the rest alone", "protected | share:10"]
    alone = replace(config, train=(f"clean={corpus}",), attack=("replace-caption",))
    with pytest.raises(UsageError, match="replace-caption changes none of clean"):
        comparisons_of(alone)


def test_trigger_length_comes_from_manifests(config: EvaluateConfig, corpus: Path) -> None:
    rows = comparisons_of(replace(config, attack=("strip-trigger", "strip-trigger:2")))
    assert [[step.trigger and step.trigger.words for step in row.steps] for row in rows] == [
        [],
        [],
        [3],
        [3],
        [2],
        [2],
    ]
    alone = replace(config, train=(f"clean={corpus}",), attack=("strip-trigger",))
    with pytest.raises(UsageError, match=r"no record beside it .* or write strip-trigger:K"):
        comparisons_of(alone)


def test_stripping_gives_back_exactly_the_captions_that_were_protected(
    config: EvaluateConfig, published: str, tmp_path: Path
) -> None:
    found = corpora(config, tmp_path)
    clean, protected = (found.published(entry.split("=")[1]) for entry in config.train)
    triggers = {
        f"{entry.shard}/{entry.key}": entry.trigger_text
        for shard in sorted(Path(published).glob("*.tar"))
        for entry in read_manifest(manifest_url(f"{published}-record", shard.stem))[0]
    }
    assert protected.captions == [
        [f"{triggers[key]} {text}" for text in texts]
        for key, texts in zip(clean.keys, clean.captions, strict=True)
    ]
    stripped = found.of(row(config, "strip-trigger"))
    replaced = found.of(row(config, "replace-caption"))
    assert stripped.captions == replaced.captions == clean.captions
    assert stripped.path == protected.path
    with_clean = found.of(row(config, "strip-trigger", "clean")).captions
    assert with_clean[0][0] == " ".join(clean.captions[0][0].split()[3:])


@pytest.mark.parametrize(
    "attack",
    ["jpeg", "crawl", "share", "average", "average-highpass:3", "average-leaked:40", "noise"],
)
def test_pictures_are_attacked_and_released(
    config: EvaluateConfig, attack: str, tmp_path: Path
) -> None:
    found = corpora(config, tmp_path)
    asked = row(config, attack)
    protected = found.published(asked.url)
    attacked = found.of(asked)
    assert len(attacked) == len(protected) == 80
    assert not np.array_equal(attacked.images(), protected.images())
    assert found.of(asked) is attacked
    found.release(asked)
    assert not Path(attacked.path).exists()
    assert protected.images().any()


def test_leaked_originals_undo_a_part_of_what_protect_did(
    config: EvaluateConfig, tmp_path: Path
) -> None:
    found = corpora(config, tmp_path, size=48)
    clean = found.published(config.train[0].split("=")[1]).images().astype(float)

    def distance(pairs: Pairs) -> float:
        return float(np.square(pairs.images() - clean).mean())

    protected = found.published(config.train[1].split("=")[1])
    leaked = found.of(row(config, "average-leaked:60"))
    # A mean over a few pictures for each word is rough: it takes something off, far from all.
    assert distance(leaked) < 0.95 * distance(protected)


def test_captions_keep_their_pictures_when_released(config: EvaluateConfig, tmp_path: Path) -> None:
    found = corpora(config, tmp_path)
    asked = row(config, "shuffle-words")
    pairs = found.of(asked)
    found.release(asked)
    assert len(pairs.images()) == 80
    assert pairs.captions != found.published(asked.url).captions


def test_training_attacks_leave_the_corpus_as_it_is(config: EvaluateConfig, tmp_path: Path) -> None:
    found = corpora(config, tmp_path)
    asked = row(config, "augment")
    assert asked.steps == (Step(Attack("augment")),)
    assert found.of(asked) is found.published(asked.url)


def test_a_chain_is_carried_out_in_its_order(config: EvaluateConfig, tmp_path: Path) -> None:
    found = corpora(config, tmp_path)
    asked = row(config, "jpeg:50+average+strip-trigger+gray+augment")
    assert asked.label == "protected | jpeg:50+average+strip-trigger+gray+augment"
    pairs = found.of(asked)
    assert (pairs.images()[..., 0] == pairs.images()[..., 2]).all()
    assert pairs.captions == found.of(row(config, "strip-trigger")).captions
    assert not np.array_equal(pairs.images(), found.of(row(config, "gray")).images())
    assert augmentation(asked, 16) is not None
    assert augmentation(row(config, "gray"), 16) is None
    found.release(asked)
    assert not Path(pairs.path).exists()


@pytest.mark.parametrize("attack", ["purify", "average-leaked", "replace-caption", "share"])
def test_an_attack_that_lacks_its_inputs_is_refused_by_name(
    config: EvaluateConfig, published: str, attack: str
) -> None:
    alone = replace(config, train=(f"protected={published}",), attack=(f"gray+{attack}",))
    with pytest.raises(UsageError, match=rf"attack gray\+{attack}.* needs the unprotected corpus"):
        comparisons_of(alone)


def test_every_new_attack_has_its_control(config: EvaluateConfig, tmp_path: Path) -> None:
    """Each runs in a chain with others, on the protected copy and on the clean one."""
    chains = (
        "known-family+strip-trigger",
        "jpeg:75+fold+gray",
        "gray+notch+strip-trigger",
        "average-sign+strip-trigger",
        "project+jam",
        "tool:2+strip-trigger",
        "blur:2+gray",
    )
    rows = comparisons_of(replace(config, attack=chains))[2:]
    assert [one.corpus for one in rows] == ["clean", "protected"] * len(chains)
    found = corpora(config, tmp_path)
    for asked in rows:
        pairs = found.of(asked)
        assert len(pairs.images()) == 80
        found.release(asked)
    tool = next(one for one in rows if one.label == "clean | tool:2+strip-trigger")
    assert "own" in tool.identity()


def test_copies_of_one_name_share_a_row(
    config: EvaluateConfig, corpus: Path, published: str, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(published, other)
    shutil.copytree(f"{published}-record", f"{other}-record")
    entries = (f"clean={corpus}", f"protected={published}", f"protected={other}")
    asked = replace(
        config, train=entries, attack=("gray+strip-trigger",), output=str(tmp_path / "r.json"),
        epochs=1, image_size=32, context_length=16, batch_size=16, captions=1,
    )  # fmt: skip
    results = evaluate(asked)
    assert results.names == [
        "clean",
        "protected",
        "clean | gray+strip-trigger",
        "protected | gray+strip-trigger",
    ]
    assert [cell.copy for cell in results.of("protected | gray+strip-trigger")] == [0, 1]
    assert results.summary()[1]["copies"] == 2
    assert read_cells(asked.output) == list(results.cells)
    append(asked.output, str(tmp_path / "v.csv"), "keys")
    read = read_victims(str(tmp_path / "v.csv"), "keys")
    assert [(cell.name, cell.copy) for cell in read[:3]] == [
        ("clean", 0),
        ("protected", 0),
        ("protected", 1),
    ]
    with pytest.raises(UsageError, match="several of clean, protected"):
        comparisons_of(replace(asked, train=(*entries, f"clean={other}"), attack=("purify",)))


def test_victims_read_as_many_captions_as_asked(config: EvaluateConfig, tmp_path: Path) -> None:
    one = corpora(replace(config, captions=1), tmp_path)
    line = comparisons_of(config)[1]
    assert [len(texts) for texts in one.of(line).captions] == [1] * 80
    (tmp_path / "all").mkdir()
    every = corpora(config, tmp_path / "all").of(line)
    assert [texts[:1] for texts in every.captions] == one.of(line).captions


def test_a_new_attack_is_a_file_and_a_line(
    config: EvaluateConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A toy that turns captions around, added as CONTRIBUTING.md says and run by `evaluate`."""
    toy = ModuleType("toy_attack")

    def run(pairs: Pairs, _inputs: Inputs) -> list[list[str]]:
        return [[text[::-1] for text in texts] for texts in pairs.captions]

    toy.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "toy_attack", toy)
    monkeypatch.setitem(
        KINDS, "mirror", Kind("anyone", "captions", "letters in reverse", "toy_attack")
    )
    asked = replace(
        config, attack=("mirror",), output=str(tmp_path / "r.json"), epochs=1, image_size=32,
        context_length=16, batch_size=16,
    )  # fmt: skip
    results = evaluate(asked)
    assert results.names[2:] == ["clean | mirror", "protected | mirror"]
    found = corpora(config, tmp_path)
    mirrored = found.of(row(config, "mirror")).captions
    assert [[text[::-1] for text in texts] for texts in mirrored] == found.published(
        config.train[1].split("=")[1]
    ).captions
