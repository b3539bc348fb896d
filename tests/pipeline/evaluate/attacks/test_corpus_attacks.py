from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.evaluate.attacks import augment
from unlearnable.pipeline.evaluate.attacks.averaging import average, average_leaked, word_columns
from unlearnable.pipeline.evaluate.attacks.purify import purify
from unlearnable.pipeline.evaluate.attacks.share import rest_of_share, share
from unlearnable.pipeline.evaluate.pairs import Pairs

from .conftest import SIZE, Planted, make_pairs


def test_a_share_is_protected_and_the_rest_is_the_original(
    planted: Planted, tmp_path: Path
) -> None:
    before, after = planted.clean.images(), planted.protected.images()
    kept = {}
    for percent in (10, 50, 100):
        mixed = share(planted.protected, planted.clean, percent, str(tmp_path / "m.raw"), 0)
        protected = np.array([(a == b).all() for a, b in zip(mixed.images(), after, strict=True)])
        assert protected.sum() == 6 * percent
        assert np.array_equal(mixed.images()[~protected], before[~protected])
        for row, is_protected in enumerate(protected):
            source = planted.protected if is_protected else planted.clean
            assert mixed.captions[row] == source.captions[row]
        kept[percent] = set(np.flatnonzero(protected))
    assert kept[10] < kept[50] < kept[100]


def test_the_control_of_a_share_is_its_clean_part(planted: Planted, tmp_path: Path) -> None:
    mixed = share(planted.protected, planted.clean, 30, str(tmp_path / "m.raw"), 0)
    rest = rest_of_share(planted.clean, 30, str(tmp_path / "r.raw"), 0)
    assert len(rest) == len(rest.images()) == 420
    rows = [mixed.keys.index(key) for key in rest.keys]
    assert np.array_equal(mixed.images()[rows], rest.images())
    assert [mixed.captions[row] for row in rows] == rest.captions
    other = rest_of_share(planted.clean, 30, str(tmp_path / "r.raw"), 1)
    assert other.keys != rest.keys
    with pytest.raises(UsageError, match="leaves nothing"):
        rest_of_share(planted.clean, 100, str(tmp_path / "r.raw"), 0)


def test_averaging_by_word_finds_a_planted_code_and_takes_it_off(
    planted: Planted, tmp_path: Path
) -> None:
    path = str(tmp_path / "a.raw")
    attacked = average(planted.protected, path, words=2, epsilon=8)
    assert planted.left(planted.protected) > 0.99
    assert planted.left(attacked) < 0.35
    change = attacked.images().astype(int) - planted.protected.images()
    assert np.abs(change).max() == 8
    again = average(planted.protected, str(tmp_path / "b.raw"), words=2, epsilon=8)
    assert np.array_equal(again.images(), attacked.images())


def test_averaging_changes_little_where_words_own_nothing(planted: Planted, tmp_path: Path) -> None:
    unmarked = replace(planted.clean, captions=planted.protected.captions)
    attacked = average(unmarked, str(tmp_path / "a.raw"), words=2, epsilon=8)
    change = attacked.images().astype(float) - planted.clean.images()
    assert np.sqrt((change**2).mean()) < 0.35 * 8


def test_highpass_averaging_finds_the_fine_half_only(planted: Planted, tmp_path: Path) -> None:
    path = str(tmp_path / "a.raw")
    attacked = average(planted.protected, path, words=2, epsilon=8, highpass=True)
    change = attacked.images().astype(float) - planted.clean.images()
    halves = np.split(change * planted.code, 2, axis=2)
    cast, fine = (float(half.mean() / 64) for half in halves)
    assert cast > 0.7
    assert fine < 0.35


def test_leaked_originals_give_the_code_away(planted: Planted, tmp_path: Path) -> None:
    options = {"words": 2, "epsilon": 8, "seed": 0}
    few, many = (
        average_leaked(
            planted.protected, planted.clean, str(tmp_path / f"{n}.raw"), count=n, **options
        )
        for n in (30, 120)
    )
    assert planted.left(many) < 0.05
    assert planted.left(many) < planted.left(few) < 0.5


def test_rare_words_and_short_captions_have_no_pattern() -> None:
    captions = [["Red dog"]] * 9 + [["red"]] * 3 + [["blue cat"]] * 7
    index = word_columns(captions, 2)
    assert index.shape == (19, 2)
    assert index[:, 0].tolist() == [1] * 12 + [0] * 7
    assert index[:, 1].tolist() == [2] * 9 + [0] * 10


def test_a_denoiser_learns_from_leaked_pairs(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    flat = np.broadcast_to(rng.integers(40, 216, (80, 1, 1, 3)), (80, SIZE - 1, SIZE - 1, 3))
    rows, columns = np.mgrid[: SIZE - 1, : SIZE - 1]
    code = np.where((rows + columns) % 2, 8, -8)[..., None]
    captions = [["a thing"]] * 80
    clean = make_pairs(tmp_path / "clean.raw", flat, captions)
    protected = make_pairs(tmp_path / "protected.raw", flat + code, captions)

    def cleaned(name: str, steps: int) -> Pairs:
        options = {"count": 40, "seed": 0, "device": torch.device("cpu"), "steps": steps}
        return purify(protected, clean, str(tmp_path / name), **options)

    def error(pairs: Pairs) -> float:
        return float(np.abs(pairs.images().astype(float) - clean.images()).mean())

    assert error(protected) == 8
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    purified = cleaned("trained", 60)
    assert error(purified) < 4
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(cleaned("again", 60).images(), purified.images())
    with pytest.raises(UsageError, match="81 leaked pairs, the corpus has 80"):
        purify(protected, clean, str(tmp_path / "x"), count=81, seed=0, device=torch.device("cpu"))


def test_augmentation_differs_by_image_and_follows_the_seed() -> None:
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.integers(0, 256, (3, 24, 24), dtype=np.uint8))
    batch = image.expand(6, -1, -1, -1)

    def draw(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return augment.run(24)(batch)

    with torch.random.fork_rng(devices=[]):
        first = draw(0)
        assert first.shape == batch.shape
        assert first.dtype == torch.uint8
        assert len({one.numpy().tobytes() for one in first} | {image.numpy().tobytes()}) == 7
        assert torch.equal(draw(0), first)
        assert not torch.equal(draw(1), first)
