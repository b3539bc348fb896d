"""Training-time augmentation: what contrastive training with strong augmentation shows a model."""

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from ..victim import Augment


def run(size: int) -> Augment:
    """Return random crops (half to all of the area), flips and colour jitter, drawn per image.

    The strengths are those of the published contrastive recipes (SimCLR's jitter at half strength;
    crops not as small as theirs, which captions of a whole picture would not survive).

    Args:
        size: side of the images, pixels.
    """
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=(0.5, 1.0), interpolation=InterpolationMode.BICUBIC),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
        ]
    )

    def augment(images: Tensor) -> Tensor:
        # One call draws one crop and one jitter, so a call for the batch would not do.
        return torch.stack([transform(image) for image in images])

    return augment
