"""Protected copies of image-caption corpora, from Python.

``fit``, ``protect``, ``verify`` and ``evaluate`` do what the commands of the same names do;
``protect_batch`` protects images in memory, for notebooks.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .notebook import protect_batch
    from .pipeline.evaluate.evaluate import evaluate
    from .pipeline.execution.artifact import load_surrogate
    from .pipeline.execution.fit import fit
    from .pipeline.execution.protect import protect
    from .pipeline.verify.verify import verify

__version__ = "0.1.0"
__all__ = [
    "__version__",
    "evaluate",
    "fit",
    "load_surrogate",
    "protect",
    "protect_batch",
    "verify",
]

_HOMES = {
    "evaluate": ".pipeline.evaluate.evaluate",
    "fit": ".pipeline.execution.fit",
    "load_surrogate": ".pipeline.execution.artifact",
    "protect": ".pipeline.execution.protect",
    "protect_batch": ".notebook",
    "verify": ".pipeline.verify.verify",
}


def __getattr__(name: str) -> object:
    """Import on first use (PEP 562): ``unlearnable --help`` must not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(_HOMES[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
