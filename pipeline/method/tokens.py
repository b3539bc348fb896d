"""Caption tokens with a trigger in front."""

import torch
from torch import Tensor

END_TOKEN = 49407


def insert_trigger(bodies: Tensor, trigger_ids: Tensor) -> Tensor:
    """Put triggers right behind the start token; what overflows the context is cut from the end.

    Args:
        bodies: int64 [B, L], tokenised captions without trigger.
        trigger_ids: int64 [B, k].

    Returns:
        int64 [B, L]; always with an end token, as the tokenizer itself would leave the whole text.
    """
    length = bodies.shape[1]
    rows = torch.cat([bodies[:, :1], trigger_ids, bodies[:, 1:]], dim=1)[:, :length].clone()
    # Not by a mask as an index, whose size a GPU would have to tell first.
    whole = (rows == END_TOKEN).any(dim=1)
    rows[:, -1] = torch.where(whole, rows[:, -1], END_TOKEN)
    return rows
