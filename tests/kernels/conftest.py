"""Triton kernels are tested on a GPU where there is one, else by Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

GPU = torch.cuda.is_available()


@pytest.fixture(scope="session")
def device() -> str:
    pytest.importorskip("triton")
    return "cuda" if GPU else "cpu"
