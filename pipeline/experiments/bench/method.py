"""What the method costs: against the published schedule, and against the bare model."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from ...method.config import FitConfig, MethodConfig
from ...method.fit import fit_surrogate
from ...method.models import get_tokenizer, model_spec
from ...method.passes import Passes
from ...method.protector import BatchProtector
from ...method.surrogate import Surrogate
from ...method.vocabulary import whole_words
from .record import Figure, side_by_side, spent

# The published schedule takes 200 steps of 128 samples a round over 30,000 pairs (Flickr8K): as
# many passes a sample with any multiple of 150 samples.
_PAIRS_A_STEP = 30_000 / 200
_FLICKR8K = 30_000
# The default's fit takes minutes, every step the same: a quarter of them is taken and counts so.
_SHARE = 4


@dataclass(frozen=True)
class Corpus:
    """Samples for the bench: smooth noise and captions of common words, the same for each run."""

    images: Tensor
    captions: list[list[str]]


def make_corpus(count: int, size: int, seed: int = 0) -> Corpus:
    """Draw ``count`` images uint8 [3, size, size] with a caption of eight words each."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 8, 8, generator=generator) * 255
    images = torch.nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 255)
    words = sorted(whole_words(get_tokenizer("tiny", 77)))[:2000]
    picks = torch.randint(0, len(words), (count, 8), generator=generator).tolist()
    return Corpus(images.byte(), [[" ".join(words[i] for i in row)] for row in picks])


def fit_settings(model: str, image_size: int | None, device: str, batch_size: int) -> FitConfig:
    """Return the default fit of a model."""
    return FitConfig(model=model, image_size=image_size, device=device, batch_size=batch_size)


def untrained(corpus: Corpus, settings: FitConfig) -> Surrogate:
    """Return a surrogate as `fit` makes it, without training: as fast as any, sooner at hand."""
    return fit_surrogate(corpus.images, corpus.captions, replace(settings, steps_per_round=0))


def bench_schedules(settings: FitConfig, samples: int) -> Iterator[Figure]:
    """(i) The default against ``--schedule paper``: same process, same samples."""
    size = model_spec(settings.model, image_size=settings.image_size).image_size
    corpus = make_corpus(samples, size)
    times: dict[str, tuple[float, float]] = {}
    paper = replace(
        settings, schedule="paper", steps_per_round=max(1, round(samples / _PAIRS_A_STEP))
    )
    part = replace(settings, steps_per_round=settings.round_steps // _SHARE)
    for name, config, times_over in (("default", part, _SHARE), ("paper", paper, 1)):
        fitting, surrogate = _fit(corpus, config)
        fitting *= times_over
        protecting, passes = _protect(surrogate, corpus, settings)
        spent = Passes(**{kind: n * times_over for kind, n in surrogate.meta["passes"].items()})
        times[name] = fitting, protecting
        yield Figure("method", name, "fit", fitting, "s")
        yield Figure("method", name, "protect", protecting / samples * 1e3, "ms/sample")
        yield from _passes(f"{name}, protect", passes, samples)
        yield from _passes(f"{name}, fit", spent, samples if name == "paper" else _FLICKR8K)
    # In the published method the fit itself protects: its samples need no replay.
    theirs = times["paper"][0] / samples
    fit_once, each = times["default"][0], times["default"][1] / samples
    yield Figure("method", "paper / default", "without fit", theirs / each, "ratio")
    for pairs in (_FLICKR8K, 1_000_000):
        ratio = theirs / (each + fit_once / pairs)
        yield Figure("method", "paper / default", f"fit spread over {pairs}", ratio, "ratio")


def bench_limit(settings: FitConfig, steps: int = 8, rounds: int = 5) -> Iterator[Figure]:
    """(iii) The optimiser against the same passes through the bare model, called in turn."""
    size = model_spec(settings.model, image_size=settings.image_size).image_size
    corpus = make_corpus(settings.batch_size, size)
    surrogate = untrained(corpus, settings)
    for name, config in (
        ("default", MethodConfig()),
        (f"{steps} steps", MethodConfig(steps=steps)),
    ):
        protector = BatchProtector(surrogate, config, settings.device)
        run = partial(protector, list(corpus.images), corpus.captions, 0)
        bare = bare_passes(protector, corpus, run().passes)
        bare()
        taken, limit = side_by_side([run, bare], settings.device, rounds)
        each = 1e3 / len(corpus.images)
        yield Figure("limit", name, "optimiser", taken * each, "ms/sample")
        yield Figure("limit", name, "bare model", limit * each, "ms/sample")
        yield Figure("limit", name, "share of the limit", limit / taken, "share")


def bare_passes(protector: BatchProtector, corpus: Corpus, passes: Passes) -> Callable[[], None]:
    """Return a function that sends the batch through the model as often as ``passes`` says."""
    assert protector.surrogate is not None
    surrogate, model = protector.surrogate, protector.models[-1]
    size = surrogate.spec.image_size
    seen = torch.randn(len(corpus.images), 3, size, size, device=protector.device)
    seen = seen.contiguous(memory_format=torch.channels_last)
    tokens = surrogate.tokenizer([texts[0] for texts in corpus.captions]).to(protector.device)
    steps, forwards, texts = (
        count // len(seen)
        for count in (
            passes.image_backward,
            passes.image_forward - passes.image_backward,
            passes.text_forward,
        )
    )

    def run() -> None:
        for _ in range(steps):
            leaf = seen.detach().requires_grad_(True)
            torch.autograd.grad(model.encode_image(leaf, normalize=True).sum(), leaf)
        with torch.no_grad():
            for _ in range(forwards):
                model.encode_image(seen, normalize=True)
            for _ in range(texts):
                model.encode_text(tokens, normalize=True)

    return run


def protect_all(
    protector: BatchProtector, images: list[Tensor], captions: list[list[str]], size: int
) -> Passes:
    """Protect samples held in memory, ``size`` at a time; return what it cost."""
    total = Passes()
    for start in range(0, len(images), size):
        part = slice(start, start + size)
        total.add(protector(images[part], captions[part], start).passes)
    return total


def _fit(corpus: Corpus, config: FitConfig) -> tuple[float, Surrogate]:
    made: list[Surrogate] = []

    def run() -> None:
        made.append(fit_surrogate(corpus.images, corpus.captions, config))

    return spent(run, config.device), made[0]


def _protect(surrogate: Surrogate, corpus: Corpus, settings: FitConfig) -> tuple[float, Passes]:
    protector = BatchProtector(surrogate, MethodConfig(), settings.device)
    passes: list[Passes] = []

    def run() -> None:
        found = protect_all(protector, list(corpus.images), corpus.captions, settings.batch_size)
        passes.append(found)

    taken = spent(run, settings.device)
    return taken, passes[0]


def _passes(case: str, passes: Passes, samples: int) -> Iterator[Figure]:
    for tower in ("image", "text"):
        forward, backward = (getattr(passes, f"{tower}_{way}") for way in ("forward", "backward"))
        each = Passes.weigh(forward, backward) / samples
        yield Figure("method", case, f"{tower} passes a sample", each, "count")
