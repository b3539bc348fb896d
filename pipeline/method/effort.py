"""More passes a sample (``--effort``): each coded word's rivals are tried, the best read is kept.

A pattern at full amplitude has no room for gradient steps: they can only wear it down. What passes
can buy is the choice among patterns. Some show on an image better than others, a bright cast on a
white ground not at all, and some collide with other samples of the batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .microbatch import encode
from .passes import Passes
from .patterns import PatternBook
from .pixels import PixelBatch
from .tokens import insert_trigger
from .transfer import send
from .vocabulary import TriggerVocabulary

if TYPE_CHECKING:
    from open_clip import CLIP

# Of the passes that an effort allows, in forward passes of the image tower: the losses before and
# after, and the features that the trials start from.
_FIXED = 3


def trials(effort: int) -> int:
    """Return how many rivals ``effort`` forward+backward passes pay for (a forward is a third)."""
    return 3 * effort - _FIXED


def steps(effort: int, models: int) -> int:
    """Return how many PGD steps against each of ``models`` surrogates ``effort`` passes pay for."""
    return (effort - _FIXED // 3) // models


def lay_code(pixels: PixelBatch, code: PatternBook, choice: Tensor, epsilon: int) -> list[Tensor]:
    """Lay the patterns of chosen words over images at full amplitude.

    Args:
        pixels: images; their perturbations are set.
        code: patterns of the words.
        choice: int64 [B, k], word index at each position.
        epsilon: amplitude, 8-bit levels.

    Returns:
        the signs, int8 [b, 3, H, W] for each image size.
    """
    signs = []
    for group, members in enumerate(pixels.members):
        images = pixels.images[group]
        found = code.compose(choice[members], *images.shape[-2:])
        # In the images' own order in memory, as every step reads the two side by side.
        found = torch.empty_like(images, dtype=torch.int8).copy_(found)
        signs.append(found)
        pixels.set_delta(group, found * epsilon)
    return signs


class WordTrials:
    """Exchanges coded words of a batch one at a time, for each sample on its own.

    Args:
        model: the surrogate, frozen.
        pixels: images; their perturbations are those of the words tried last.
        code: patterns of the words.
        vocabulary: the words.
        bodies: int64 [B, L], a caption for each sample, of another sample: what is compared is how
            well a pattern names its word, not how well a word suits the picture.
        epsilon: amplitude, 8-bit levels.
        passes: counts are added here.
    """

    def __init__(
        self,
        model: CLIP,
        pixels: PixelBatch,
        code: PatternBook,
        vocabulary: TriggerVocabulary,
        bodies: Tensor,
        epsilon: int,
        passes: Passes,
    ) -> None:
        self._model, self._pixels, self._code = model, pixels, code
        self._vocabulary, self._bodies = vocabulary, bodies
        self._epsilon, self._passes = epsilon, passes

    def run(self, choice: Tensor, count: int) -> Tensor:
        """Try ``count`` rivals a sample: words of one position after the other, all in turn.

        Args:
            choice: int64 [B, k], word index at each position.
            count: rivals.

        Returns:
            int64 [B, k].
        """
        positions, words = self._code.tiles.shape[:2]
        image, text = self._features(choice)
        scale = self._model.logit_scale.exp().detach()
        first = choice
        for trial in range(count):
            sweep = trial % (positions * (words - 1))
            first = choice if sweep == 0 else first
            position, shift = sweep % positions, 1 + sweep // positions
            rival = choice.clone()
            rival[:, position] = (first[:, position] + shift) % words
            rival_image, rival_text = self._features(rival)
            now = pair_loss(image, text, image, text, scale)
            better = pair_loss(rival_image, rival_text, image, text, scale) < now
            image = torch.where(better[:, None], rival_image, image)
            text = torch.where(better[:, None], rival_text, text)
            # The one place where the host waits: it lays out the next patterns.
            choice = torch.where(better.cpu()[:, None], rival, choice)
        return choice

    def _features(self, choice: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [B, D] of the images and texts with the words ``choice``."""
        lay_code(self._pixels, self._code, choice, self._epsilon)
        tokens = insert_trigger(self._bodies, self._vocabulary.tokens(choice))
        image = encode(self._model.encode_image, self._pixels.seen())
        text = encode(self._model.encode_text, send(tokens, str(image.device)))
        self._passes.image_forward += len(choice)
        self._passes.text_forward += len(choice)
        return image, text


def pair_loss(image: Tensor, text: Tensor, images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """Return the loss of each sample if its own image and text alone were replaced.

    Args:
        image: [B, D], unit length, what each sample would get.
        text: [B, D], unit length, what each sample would get.
        images: [B, D], what is in place.
        texts: [B, D], what is in place.
        scale: inverse temperature, scalar.

    Returns:
        [B]; entry i equals ``info_nce(...)[i]`` after that swap of sample i.
    """
    own = scale * (image * text).sum(1)
    itself = torch.eye(len(image), dtype=torch.bool, device=image.device)
    by_image = (scale * image @ texts.T).masked_fill(itself, -torch.inf).logsumexp(1)
    by_text = (scale * text @ images.T).masked_fill(itself, -torch.inf).logsumexp(1)
    return (torch.logaddexp(own, by_image) + torch.logaddexp(own, by_text)) / 2 - own
