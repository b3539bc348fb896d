"""First-order candidate words of HotFlip."""

from __future__ import annotations

from torch import Tensor


def hotflip_topk(gradient: Tensor, embedding: Tensor, count: int) -> Tensor:
    """Return the ``count`` words with the lowest first-order loss.

    Args:
        gradient: of the loss at the trigger position's embedding, [B, E].
        embedding: of the allowed words, [V, E].
        count: words to return, at most V.

    Returns:
        int64 [B, count], indices into ``embedding``, best first. The score of a word w is
        ``-gradient . embedding[w]`` (Ebrahimi et al. 2018, eq. 2; the term of the present word is
        the same for every candidate and left out).
    """
    scores = -(gradient @ embedding.T)
    return scores.topk(count, dim=1).indices
