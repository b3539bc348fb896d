"""Copies between host and device that the host does not wait for."""

from torch import Tensor


def send(tensor: Tensor, device: str) -> Tensor:
    """Return ``tensor`` on ``device``.

    To a GPU it goes through page-locked memory, beside what the GPU computes meanwhile.
    """
    if tensor.is_cuda or not device.startswith("cuda"):
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
