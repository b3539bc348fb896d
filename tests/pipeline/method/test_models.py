from __future__ import annotations

import pytest
import torch

from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.method.models import (
    build_model,
    get_tokenizer,
    model_spec,
    to_model_input,
)


@pytest.mark.parametrize("name", ["tiny", "RN50", "ViT-B-32"])
def test_models_are_built_by_name_and_encode_both_sides(name: str) -> None:
    spec = model_spec(name, image_size=64, context_length=20)
    model = build_model(name, image_size=64, context_length=20).eval()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    tokens = get_tokenizer(name, 20)(["a red dog", "a blue car"])
    with torch.no_grad():
        image = model.encode_image(to_model_input(images, spec), normalize=True)
        text = model.encode_text(tokens, normalize=True)
    assert image.shape == text.shape
    torch.testing.assert_close(image.norm(dim=-1), torch.ones(2))


def test_the_seed_fixes_the_weights_and_leaves_the_global_state_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (build_model("tiny", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    one, two, three = (model.visual.conv1.weight for model in (first, again, other))
    assert torch.equal(one, two)
    assert not torch.equal(one, three)


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(UsageError, match="RN5000"):
        build_model("RN5000")


def test_a_model_of_another_tokenizer_is_refused() -> None:
    with pytest.raises(UsageError, match="tokenizer"):
        get_tokenizer("ViT-B-16-SigLIP", 64)


@pytest.mark.parametrize("size", [(64, 64), (100, 64), (64, 333), (40, 50), (480, 640)])
def test_model_input_is_open_clips_evaluation_transform(size: tuple[int, int]) -> None:
    from open_clip import image_transform
    from PIL import Image

    spec = model_spec("tiny")
    coarse = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(0)) * 255
    image = torch.nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 255).byte()
    picture = Image.fromarray(image[0].permute(1, 2, 0).numpy())
    expected = image_transform(64, is_train=False, mean=spec.mean, std=spec.std)(picture)
    # Pillow rounds to 8 bits between its two passes: a level or two, in units of the deviation.
    two_levels = 2 / 255 / min(spec.std)
    torch.testing.assert_close(to_model_input(image, spec)[0], expected, atol=two_levels, rtol=0)


def test_a_long_strip_is_read_by_its_middle() -> None:
    spec = model_spec("tiny", image_size=32)
    strip = torch.zeros(1, 3, 1, 400_000, dtype=torch.uint8)
    strip[..., 199_990:200_010] = 200
    square = torch.full((1, 3, 32, 32), 200, dtype=torch.uint8)
    assert torch.allclose(to_model_input(strip, spec), to_model_input(square, spec))
