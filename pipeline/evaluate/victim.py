"""A victim: a CLIP model that someone trains, from scratch or further, on what was published.

The published protocol (Liu et al. 2024, section 4.1): symmetric InfoNCE, AdamW, cosine schedule, no
augmentation, one random caption of an image a step; its scale (model, size, epochs) is set by
options.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..errors import UsageError
from ..method.models import ModelSpec, decay_groups, to_model_input
from ..seeds import derive_seed
from .checkpoints import load_weights, save_weights
from .pairs import Pairs
from .probe import Probe, content_probe
from .retrieval import Identities, Retrieval, retrieval
from .towers import Towers, image_features, text_features
from .victim_models import build, spec_of, tokenizer_of

Augment = Callable[[Tensor], Tensor]
"""Changes a training batch, uint8 [B, 3, S, S], anew each time; random by torch's global state."""

_MAX_LOGIT_SCALE = math.log(100)
_MAX_WARMUP = 50
_IMAGE_BLOCK, _TEXT_BLOCK = 128, 512


@dataclass(frozen=True)
class VictimConfig:
    """Everything but the data that decides what a victim learns.

    Attributes:
        precision: ``fp32`` or ``bf16`` (autocast).
        lr: peak learning rate, reached after min(50, a tenth of all) linear warm-up steps.
        eval_every: epochs between two tests; the last epoch is always tested.
        init: URL of the weights that it starts from; random ones when None.
        init_sha256: of that file.
        identities: captions name identities; see :class:`.retrieval.Identities`.
    """

    model: str
    image_size: int | None
    context_length: int | None
    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    eval_every: int
    precision: str
    seed: int
    init: str | None = None
    init_sha256: str | None = None
    identities: bool = False

    def identity(self) -> dict[str, Any]:
        """Return what decides the curve, for the record of a cell."""
        known = {name: value for name, value in asdict(self).items() if name != "init"}
        if self.init is None:
            del known["init_sha256"]
        if not self.identities:
            del known["identities"]
        return known

    def spec(self) -> ModelSpec:
        """Return the input that the model reads."""
        return spec_of(self.model, self.image_size, self.context_length)


@dataclass(frozen=True)
class EpochPoint:
    """A victim after ``epoch`` epochs; ``train_loss`` is that epoch's mean, None if not finite.

    Where captions name identities, ``accuracy`` is the per cent of test pictures that are named
    right.
    """

    epoch: int
    train_loss: float | None
    retrieval: Retrieval
    accuracy: float | None = None


@dataclass(frozen=True)
class VictimRun:
    """What training one victim gave; ``seconds`` includes the tests."""

    curve: list[EpochPoint]
    probe: Probe | None
    seconds: float
    device: str


class _Inputs(Protocol):
    def __getitem__(self, index: Tensor) -> Tensor: ...


class _Captions:
    """Token ids of all captions, int64 [M, context], with the image that owns each."""

    def __init__(self, pairs: Pairs, spec: ModelSpec, device: torch.device) -> None:
        tokenizer = tokenizer_of(spec)
        counts = torch.tensor([len(texts) for texts in pairs.captions])
        self.counts = counts
        self.first = counts.cumsum(0) - counts
        self.owner = torch.repeat_interleave(torch.arange(len(pairs)), counts)
        self.tokens = tokenizer([t for texts in pairs.captions for t in texts]).to(device)

    def draw(self, index: Tensor, generator: torch.Generator) -> Tensor:
        """Return the tokens of one random caption of each image in ``index``."""
        chosen = (torch.rand(len(index), generator=generator) * self.counts[index]).long()
        return self.tokens[(self.first[index] + chosen).to(self.tokens.device)]


class _Images:
    """Pixels of a corpus: mapped from disk for a CPU, copied once (N*S*S*3 bytes) to a GPU."""

    def __init__(
        self,
        pairs: Pairs,
        spec: ModelSpec,
        device: torch.device,
        augment: Augment | None = None,
    ) -> None:
        self._spec, self._augment = spec, augment
        self._mapped = pairs.images()
        self._held = None
        if device.type != "cpu":
            self._held = torch.from_numpy(self._mapped.copy()).to(device)

    def __getitem__(self, index: Tensor) -> Tensor:
        """Return the model's input for ``index``, float32 [B, 3, S, S], channels last."""
        if self._held is None:
            pixels = torch.from_numpy(self._mapped[index.numpy()])
        else:
            pixels = self._held[index.to(self._held.device)]
        pixels = pixels.permute(0, 3, 1, 2)
        if self._augment is not None:
            pixels = self._augment(pixels)
        return to_model_input(pixels, self._spec)


def train_victim(
    train: Pairs,
    test: Pairs,
    config: VictimConfig,
    *,
    device: torch.device,
    threads: int = 1,
    augment: Augment | None = None,
    progress: Callable[[EpochPoint], None] | None = None,
    weights: str | None = None,
) -> VictimRun:
    """Train a victim on ``train``, test it on ``test`` after each epoch, keep it at ``weights``.

    Equal data, config and device give equal results on a CPU: the seed fixes the weights, the order
    of the samples, the choice of captions and the augmentation, the same for every corpus of equal
    length.
    """
    started = time.monotonic()
    # Over contexts this short a CPU's fused attention in bf16 takes 1.1 to 1.3 times a step's time.
    plain = config.precision == "bf16" and device.type == "cpu"
    attention = sdpa_kernel(SDPBackend.MATH) if plain else nullcontext()
    with private_torch_state(threads, derive_seed("victim dropout", config.seed)), attention:
        trainer = _Trainer(train, test, config, device, augment)
        curve = []
        for epoch in range(1, config.epochs + 1):
            loss = trainer.run_epoch()
            if epoch % config.eval_every == 0 or epoch == config.epochs:
                finite = round(loss, 6) if math.isfinite(loss) else None
                curve.append(EpochPoint(epoch, finite, *trainer.test()))
                if progress is not None:
                    progress(curve[-1])
        probe = content_probe(trainer.features(), test.captions)
        if weights is not None:
            save_weights(trainer.model, weights)
    return VictimRun(curve, probe, time.monotonic() - started, _device_name(device))


class _Trainer:
    def __init__(
        self,
        train: Pairs,
        test: Pairs,
        config: VictimConfig,
        device: torch.device,
        augment: Augment | None,
    ) -> None:
        spec = config.spec()
        seed = derive_seed("victim weights", config.seed)
        self.model: Any = build(spec, seed)
        if config.init is not None:
            load_weights(self.model, config.init)
        self.model.to(device)
        self.model.to(memory_format=torch.channels_last)
        self.bf16, self.device = config.precision == "bf16", device
        self.images: _Inputs = _Images(train, spec, device, augment)
        self.captions = _Captions(train, spec, device)
        self.test_images: _Inputs = _Images(test, spec, device)
        self.test_captions = _Captions(test, spec, device)
        self.identities = Identities(test.captions) if config.identities else None
        if isinstance(self.model, Towers) and self.model.frozen:
            if augment is not None:
                raise UsageError("the inputs of frozen towers are read once: no attack augment")
            self._read_features(train, test, spec.image_size)
        self.samples, self.test_samples = len(train), len(test)
        self.batch = min(config.batch_size, self.samples)
        self.steps = config.epochs * (self.samples // self.batch)
        self.step, self.lr = 0, config.lr
        self.optimizer = _optimizer(self.model, config)
        self.generator = torch.Generator().manual_seed(derive_seed("victim order", config.seed))

    def _read_features(self, train: Pairs, test: Pairs, size: int) -> None:
        """Put what frozen towers make of pictures and captions in their place."""
        self.model.eval()
        with self._autocast():
            self.images = image_features(self.model, self.images, train, size).to(self.device)
            self.test_images = image_features(self.model, self.test_images, test, size).to(
                self.device
            )
            for captions, pairs in ((self.captions, train), (self.test_captions, test)):
                features = text_features(self.model, captions.tokens, pairs)
                captions.tokens = features.to(self.device)

    def run_epoch(self) -> float:
        """Train on every sample once, less an incomplete last batch; return mean loss."""
        self.model.train()
        order = torch.randperm(self.samples, generator=self.generator)
        whole = self.samples // self.batch * self.batch
        losses = [self._train_on(index) for index in order[:whole].split(self.batch)]
        return float(torch.stack(losses).mean())

    def _train_on(self, index: Tensor) -> Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * _schedule(self.step, self.steps)
        self.step += 1
        tokens = self.captions.draw(index, self.generator)
        with self._autocast():
            images = self.model.encode_image(self.images[index], normalize=True)
            texts = self.model.encode_text(tokens, normalize=True)
        logits = self.model.logit_scale.exp() * images.float() @ texts.float().T
        target = torch.arange(len(index), device=self.device)
        loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, _MAX_LOGIT_SCALE)
        return loss.detach()

    @torch.no_grad()
    def test(self) -> tuple[Retrieval, float | None]:
        """Return the retrieval on the test set with all captions, and the accuracy of naming."""
        self.model.eval()
        tokens = self.test_captions.tokens.split(_TEXT_BLOCK)
        with self._autocast():
            texts = [self.model.encode_text(block) for block in tokens]
        both = (self.features(), torch.cat(texts).float())
        unit = [F.normalize(found.to(self.device), dim=-1) for found in both]
        if self.identities is not None:
            return self.identities.score(unit[0], unit[1][self.test_captions.first])
        return retrieval(unit[0], unit[1], self.test_captions.owner), None

    @torch.no_grad()
    def features(self) -> Tensor:
        """Return the embeddings of the test pictures, float32 [N, D] on the CPU."""
        self.model.eval()
        blocks = torch.arange(self.test_samples).split(_IMAGE_BLOCK)
        with self._autocast():
            found = [self.model.encode_image(self.test_images[block]) for block in blocks]
        return torch.cat(found).float().cpu()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)


def _optimizer(model: torch.nn.Module, config: VictimConfig) -> torch.optim.Optimizer:
    groups = decay_groups(model, config.weight_decay)
    return torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.98), eps=1e-6, fused=True)


def _schedule(step: int, steps: int) -> float:
    """Return the share of the peak learning rate at ``step`` of ``steps``."""
    warmup = min(_MAX_WARMUP, steps // 10)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


@contextmanager
def private_torch_state(threads: int, seed: int) -> Iterator[None]:
    """Run with ``threads`` and a seed of its own, and leave the process as it was."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(before)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
