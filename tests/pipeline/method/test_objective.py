import pytest
import torch
import torch.nn.functional as F

from unlearnable.pipeline.method.objective import info_nce, swap_loss


def unit(*shape: int) -> torch.Tensor:
    return F.normalize(
        torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))), dim=-1
    )


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_info_nce_is_clips_loss(batch: int) -> None:
    from open_clip.loss import ClipLoss

    image, text, scale = unit(batch, 8), unit(batch, 8).flip(0), torch.tensor(14.0)
    torch.testing.assert_close(info_nce(image, text, scale).mean(), ClipLoss()(image, text, scale))


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_swap_loss_equals_the_loss_after_each_swap(batch: int) -> None:
    image, text, candidates = unit(batch, 8), unit(batch, 8).flip(0), unit(batch, 3, 8)
    scale = torch.tensor(14.0)
    losses = swap_loss(image, text, candidates, scale)
    for sample in range(batch):
        for candidate in range(3):
            swapped = text.clone()
            swapped[sample] = candidates[sample, candidate]
            expected = info_nce(image, swapped, scale)[sample]
            torch.testing.assert_close(losses[sample, candidate], expected)
