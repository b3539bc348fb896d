import numpy as np
import pytest
import torch

from unlearnable.pipeline.evaluate.retrieval import Identities, chance, retrieval


def simulate(captions: list[int], rounds: int, seed: int) -> tuple[list[float], list[float]]:
    """Hit@1/5/10 and the median rank of random scores, ranked one by one with numpy."""
    draw = np.random.default_rng(seed)
    owner = np.repeat(np.arange(len(captions)), captions)
    i2t, t2i = [], []
    for _ in range(rounds):
        scores = draw.random((len(captions), len(owner)))
        for image, row in enumerate(scores):
            order = owner[np.argsort(-row)]
            i2t.append(int(np.argmax(order == image)) + 1)
        for caption, column in enumerate(scores.T):
            order = np.argsort(-column)
            t2i.append(int(np.argmax(order == owner[caption])) + 1)

    def figures(ranks: list[int]) -> list[float]:
        values = np.array(ranks)
        return [100 * float((values <= k).mean()) for k in (1, 5, 10)] + [float(np.median(values))]

    return figures(i2t), figures(t2i)


@pytest.mark.parametrize("captions", [[1] * 40, [5] * 30, [1, 2, 3, 4, 5, 9] * 5])
def test_chance_equals_a_simulation_of_random_scores(captions: list[int]) -> None:
    expected = simulate(captions, rounds=400, seed=3)
    result = chance(captions)
    for scores, figures in zip((result.i2t, result.t2i), expected, strict=True):
        found = [scores.hit1, scores.hit5, scores.hit10]
        assert found == pytest.approx(figures[:3], abs=1.5)
        assert abs(scores.medr - figures[3]) <= 1


def test_chance_of_the_usual_flickr_split() -> None:
    result = chance([5] * 1000)
    assert result.i2t.hit10 == pytest.approx(0.996, abs=0.01)
    assert result.i2t.medr == pytest.approx(647, abs=1)
    assert (result.t2i.hit10, result.t2i.medr) == (pytest.approx(1.0), 500)


def test_ranks_of_hand_made_scores() -> None:
    # Two images with two captions each and one with one.
    images = torch.eye(3)
    texts = torch.tensor(
        [[0.8, 0.1, 0.0], [0.1, 0.9, 0.0], [0.9, 0.7, 0.0], [0.3, 0.6, 0.1], [0.2, 0.2, 0.9]]
    )
    owner = torch.tensor([0, 0, 1, 1, 2])
    result = retrieval(images, texts, owner)
    assert result.i2t.hit1 == pytest.approx(100 / 3)  # first right answers: rank 2, rank 2, rank 1
    assert (result.i2t.hit5, result.i2t.medr) == (pytest.approx(100.0), 2)
    # Ranks of the own image for the five captions: 1, 2, 2, 1, 1.
    assert (result.t2i.hit1, result.t2i.medr) == (pytest.approx(60.0), 1)


@pytest.mark.parametrize("broken", [1.0, float("nan")])
def test_collapsed_or_infinite_features_score_chance(broken: float) -> None:
    captions = [3, 1, 2] * 20
    owner = torch.repeat_interleave(torch.arange(60), torch.tensor(captions))
    features = torch.full((60, 4), broken)
    assert retrieval(features, torch.ones(120, 4), owner) == chance(captions)


def test_ties_equal_the_mean_over_random_orders() -> None:
    draw = torch.Generator().manual_seed(0)
    # Features on a coarse grid tie often; a tiny jitter breaks ties at random.
    images = torch.randint(0, 2, (12, 3), generator=draw).float()
    texts = torch.randint(0, 2, (24, 3), generator=draw).float()
    owner = torch.arange(12).repeat_interleave(2)
    found = retrieval(images, texts, owner)
    hits = []
    for _ in range(3000):
        scores = images @ texts.T + 1e-3 * torch.rand(12, 24, generator=draw)
        order = owner[scores.argsort(dim=1, descending=True)]
        hits.append((order[:, :5] == torch.arange(12)[:, None]).any(1).float().mean())
    assert found.i2t.hit5 == pytest.approx(100 * float(torch.stack(hits).mean()), abs=1.0)


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.Generator().manual_seed(1)
    images, texts = torch.randn(37, 8, generator=draw), torch.randn(90, 8, generator=draw)
    owner = torch.cat([torch.arange(37), torch.randint(0, 37, (53,), generator=draw)])
    whole = retrieval(images, texts, owner)
    monkeypatch.setattr("unlearnable.pipeline.evaluate.retrieval._BLOCK", 5)
    assert retrieval(images, texts, owner) == whole


def test_identities_are_named_by_the_nearest_caption_and_retrieved_one_to_one() -> None:
    captions = [["ann"], ["bob"], ["ann"], ["cid"], ["bob"]]
    identities = Identities(captions)
    prompts = torch.eye(3)[[0, 1, 0, 2, 1]]
    images = torch.tensor([[1, 0, 0.1], [0, 1, 0.1], [0.2, 1, 0], [0, 0, 1.0], [0, 0.9, 0.1]])
    images = torch.nn.functional.normalize(images, dim=1)
    found, right = identities.score(images, prompts)
    assert right == 80.0  # the third picture shows Ann and is taken for Bob
    assert (found.i2t.hit1, found.t2i.hit1) == (100.0, 100.0)
    assert chance([1] * 3).i2t.hit1 == pytest.approx(100 / 3, abs=1e-5)
    collapsed, guessed = identities.score(torch.zeros(5, 3), torch.zeros(5, 3))
    assert guessed == pytest.approx(100 / 3, abs=1e-5)
    assert collapsed.i2t.hit1 == pytest.approx(100 / 3, abs=1e-5)
