from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from unlearnable.pipeline.data.manifest import manifest_url, read_manifest
from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.evaluate.attacks.catalogue import Attack
from unlearnable.pipeline.evaluate.comparisons import Row, rows_of
from unlearnable.pipeline.evaluate.config import EvaluateConfig
from unlearnable.pipeline.evaluate.corpora import Corpora
from unlearnable.pipeline.evaluate.pairs import Pairs
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


def row(config: EvaluateConfig, attack: str, name: str = "protected") -> Row:
    rows = rows_of(replace(config, attack=(attack,)))
    return next(row for row in rows if row.attack is not None and row.corpus == name)


def corpora(config: EvaluateConfig, folder: Path, size: int = 16) -> Corpora:
    return Corpora(config, size, str(folder), torch.device("cpu"))


def test_every_corpus_is_evaluated_once_more_under_each_attack(config: EvaluateConfig) -> None:
    rows = rows_of(replace(config, attack=("jpeg:50", "share", "share:100", "purify:20")))
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
        rows_of(renamed)
    labels = [row.label for row in rows_of(replace(renamed, clean="original"))]
    assert labels[2:] == ["original | share:10, the rest alone", "protected | share:10"]
    alone = replace(config, train=(f"clean={corpus}",), attack=("replace-caption",))
    with pytest.raises(UsageError, match="replace-caption changes none of clean"):
        rows_of(alone)


def test_trigger_length_comes_from_manifests(config: EvaluateConfig, corpus: Path) -> None:
    rows = rows_of(replace(config, attack=("strip-trigger", "strip-trigger:2")))
    assert [row.trigger and row.trigger.words for row in rows] == [None, None, 3, 3, 2, 2]
    alone = replace(config, train=(f"clean={corpus}",), attack=("strip-trigger",))
    with pytest.raises(UsageError, match=r"no manifest folder .* or write strip-trigger:K"):
        rows_of(alone)


def test_stripping_gives_back_exactly_the_captions_that_were_protected(
    config: EvaluateConfig, published: str, tmp_path: Path
) -> None:
    found = corpora(config, tmp_path)
    clean, protected = (found.published(entry.split("=")[1]) for entry in config.train)
    triggers = {
        f"{entry.shard}/{entry.key}": entry.trigger_text
        for shard in sorted(Path(published).glob("*.tar"))
        for entry in read_manifest(manifest_url(published, shard.stem))[0]
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
    assert distance(leaked) < 0.7 * distance(protected)


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
    assert asked.attack == Attack("augment")
    assert found.of(asked) is found.published(asked.url)
