"""EM (Huang et al. 2021): error-minimising noise for the images alone."""

from typing import ClassVar

from .base import Replayed


class ErrorMinimising(Replayed):
    """Each image is pulled towards its own captions; captions stay as they are.

    Rounds and steps are those of the code of MEM's authors.
    """

    published_rounds: ClassVar[int] = 5
    published_steps: ClassVar[int] = 50


METHOD = ErrorMinimising()
