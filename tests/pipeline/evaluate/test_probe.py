import torch

from unlearnable.pipeline.evaluate.probe import content_probe


def corpus(count: int) -> tuple[torch.Tensor, list[list[str]]]:
    """Whether a picture holds a dog, a boat or neither, and captions that say so."""
    generator = torch.Generator().manual_seed(0)
    kinds = torch.randint(3, (count,), generator=generator)
    texts = ["the dog runs", "a boat on the sea", "nothing here"]
    return kinds, [[texts[kind]] for kind in kinds.tolist()]


def test_what_features_hold_is_found_and_noise_is_at_chance() -> None:
    kinds, captions = corpus(400)
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(400, 16, generator=generator)
    seeing = noise.clone()
    seeing[:, 3] += 4 * (kinds == 0)
    blind, half = content_probe(noise, captions), content_probe(seeing, captions)
    assert blind is not None
    assert half is not None
    # dog, runs, boat, sea and nothing; "the", "a", "on" and "here" carry no meaning.
    assert blind.words == half.words >= 5
    assert abs(blind.precision - blind.chance) < 8
    assert half.precision > blind.precision + 15
    assert content_probe(seeing, captions) == half


def test_collapsed_or_broken_features_are_at_chance() -> None:
    _, captions = corpus(400)
    for features in (torch.ones(400, 8), torch.full((400, 8), torch.nan)):
        found = content_probe(features, captions)
        assert found is not None
        assert abs(found.precision - found.chance) < 8


def test_rare_words_are_not_asked_for() -> None:
    assert content_probe(torch.ones(30, 4), [["dog"]] * 30) is None
    assert content_probe(torch.ones(3, 4), [["dog"], ["cat"], ["boat"]]) is None
