"""The channels of an image taken apart, and put together again."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .backend import opencv

Pixels = npt.NDArray[np.uint8]


def take_apart(pixels: Pixels) -> Tensor:
    """Return the planes of an image, uint8 [H, W, 3] -> [3, H, W]."""
    planes = np.empty((pixels.shape[2], *pixels.shape[:2]), np.uint8)
    opencv().split(pixels, list(planes))
    return torch.from_numpy(planes)


def put_together(planes: Tensor) -> Pixels:
    """Return the image that has these planes, uint8 [3, H, W] -> [H, W, 3]."""
    pixels: Pixels = opencv().merge(list(planes.numpy()))
    return pixels
