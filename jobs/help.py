"""What `--help` shows: the options that most runs need, and the names of the others."""

from typing import TYPE_CHECKING, Any

from cyclopts.help import DefaultFormatter

if TYPE_CHECKING:
    from cyclopts.help import HelpEntry, HelpPanel
    from rich.console import Console, ConsoleOptions

# Options explained by `--help`, beside those that are required; `--help-all` explains all. A
# command that is not named here has few enough to show each.
FIRST = {
    "run": (
        "owner", "strength", "model", "trigger-words", "epsilon", "image-format", "workers",
        "device", "seed", "surrogate", "captions",
    ),
    "fit": (
        "model", "strength", "key", "trigger-words", "epsilon", "schedule", "max-samples", "device",
        "seed",
    ),
    "protect": (
        "surrogate", "method", "epsilon", "image-format", "executor", "workers", "device", "seed",
        "max-quarantined", "owner", "dry-run",
    ),
    "evaluate": ("model", "epochs", "seeds", "workers", "device", "plot"),
    "preview": ("n", "output", "surrogate", "epsilon", "seed"),
    "retry": ("surrogate", "executor", "workers", "device", "max-attempts"),
    "bench": ("only", "record", "plot", "model", "device", "samples", "scale"),
}  # fmt: skip
_ALWAYS = ("config", "help-all")


class BriefFormatter(DefaultFormatter):
    """Show a panel with the options that matter first, and the names of the rest.

    Args:
        first: names of options without their dashes.
    """

    def __init__(self, first: tuple[str, ...]) -> None:
        super().__init__()
        self._first = {f"--{name}" for name in (*first, *_ALWAYS)}

    def __call__(self, console: "Console", options: "ConsoleOptions", panel: "HelpPanel") -> None:
        """Print the panel (called by cyclopts)."""
        shown = [entry for entry in panel.entries if self._is_shown(entry)]
        rest = [entry for entry in panel.entries if not self._is_shown(entry)]
        entries: Any = sorted(shown, key=_rank)
        super().__call__(console, options, panel.copy(entries=entries))
        if rest:
            from rich.markup import escape
            from rich.panel import Panel

            names = escape("  ".join(entry.positive_names[0] for entry in rest))
            title = "More, explained by --help-all"
            console.print(Panel(names, title=title, title_align="left", padding=(0, 1)))

    def _is_shown(self, entry: "HelpEntry") -> bool:
        return entry.required or not self._first.isdisjoint(entry.names) or not entry.positive_names


def _rank(entry: "HelpEntry") -> int:
    """Put what is required first and what every command has last."""
    general = {f"--{name}" for name in _ALWAYS}
    return 2 * (not general.isdisjoint(entry.names)) + (not entry.required)


def shown_default(value: Any) -> Any:
    """Return how a default reads in the help; None for one that says nothing."""
    if isinstance(value, tuple):
        return " ".join(str(part) for part in value) or None
    if isinstance(value, bool):
        return "yes" if value else "no"
    return None if value in (None, "") else str(value)
