"""Figures: matplotlib without windows and without global state."""

import io
from typing import Any

from .errors import UsageError

INK, SOFT, TRIGGER = "#1d1d1f", "#6e6e73", "#b3261e"


def require_matplotlib() -> None:
    """Refuse early what could only fail after hours of work. Raises UsageError."""
    new_figure(1, 1)


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure, inches; it belongs to no window and no global state."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError(
            "pictures need matplotlib, which is not installed here; install it"
        ) from error
    return Figure(figsize=(width, height), layout="constrained")


def png(figure: Any, dpi: int) -> bytes:
    """Return a figure as a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()
