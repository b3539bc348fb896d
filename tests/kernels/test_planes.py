from __future__ import annotations

import numpy as np
import pytest
import torch

from unlearnable.kernels.planes import put_together, take_apart


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (64, 33)])
def test_planes_are_those_of_the_image(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    # What a decoder hands over may be a part of something larger, and turned.
    for image in (pixels, pixels[::-1], pixels[:, ::-1], pixels.transpose(1, 0, 2)):
        planes = take_apart(image)
        assert torch.equal(planes, torch.from_numpy(image.transpose(2, 0, 1).copy()))
        assert np.array_equal(put_together(planes), image)


def test_one_plane_may_stand_for_three() -> None:
    grey = torch.arange(6, dtype=torch.uint8).view(1, 2, 3)
    assert np.array_equal(put_together(grey.expand(3, -1, -1)), np.dstack([grey[0].numpy()] * 3))
