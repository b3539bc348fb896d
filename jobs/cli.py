"""The command ``unlearnable``: what it offers, and what each ending is called (exit codes)."""

import errno
import io
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter, UnusedCliTokensError

from .. import __version__
from ..pipeline.data.urls import is_text
from ..pipeline.errors import UnavailableError, UnlearnableError, UsageError
from ..pipeline.execution.driver.stop import Interrupted, stop_on_signals
from .help import FIRST, BriefFormatter, shown_default
from .options import FileOptions, split_numbers, whole_numbers

# Named as strings: a command's module is imported when the command runs, `--help` stays fast.
_COMMANDS = {
    "run": ("commands:run", "Fit, protect, verify and report in one; the same again resumes."),
    "data": ("data:app", "Make shards from a corpus as its owner distributes it."),
    "fit": ("commands:fit", "Fit a surrogate on a bounded part of a corpus."),
    "preview": ("commands:preview", "Show a few samples before and after, within a minute."),
    "protect": ("commands:protect", "Write a protected copy of a corpus, shard by shard."),
    "verify": ("commands:verify", "Check a protected copy, with its record or as any reader can."),
    "publish": ("commands:publish", "Mark a verified copy as published, and upload it."),
    "evaluate": ("commands:evaluate", "Train victims on corpora and compare what they learn."),
    "submit": ("submit:submit", "Run a command on a Ray cluster and wait for its end."),
    "status": ("commands:status", "Tell how far a run is, from its ledger alone."),
    "report": ("commands:report", "Write one HTML page about a protected copy."),
    "retry": ("commands:retry", "Run the failed shards of a run again."),
    "restore": ("commands:restore", "Write the shards again with the triggers stripped."),
    "paper": ("commands:paper", "Run a table of the MEM paper, cell by cell."),
    "bench": ("commands:bench", "Tell what protection costs on this machine."),
    "demo": ("demo:demo", "Show the whole way on emoji pictures, on 2 CPU cores."),
}


def build_app(*, brief: bool = False) -> App:
    """Return the command line as a cyclopts app, its commands not yet imported.

    Args:
        brief: let `--help` explain only the options that most runs need.
    """
    app = App(
        name="unlearnable",
        help="Protected copies of image-caption corpora.",
        help_format="plaintext",
        version=__version__,
        result_action="return_value",
        suppress_keyboard_interrupt=False,
        config=(split_numbers, whole_numbers),
        default_parameter=Parameter(
            consume_multiple=True, negative_iterable=(), show_default=shown_default
        ),
    )
    for name, (target, summary) in _COMMANDS.items():
        look: dict[str, Any] = {}
        if brief and name in FIRST:
            look["help_formatter"] = BriefFormatter(FIRST[name])
        app.command(f"{__package__}.{target}", name=name, help=summary, **look)
    app.register_install_completion_command(
        help="Let the shell complete commands and options: bash, zsh or fish."
    )
    _take_general_options(app)
    return app


def _take_general_options(app: App) -> None:
    """Take the options that every command has before its own are read."""
    app.meta.suppress_keyboard_interrupt = False

    @app.meta.default
    def with_config(
        *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
        config: str | None = None,
        help_all: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    ) -> object:
        """Protected copies of image-caption corpora.

        Args:
            *tokens: the command and its arguments.
            config: YAML file with options of the command; the command line wins over it.
            help_all: Explain every option of the command.
        """
        if help_all:
            return build_app().meta([*tokens, "--help"], exit_on_error=False, print_error=False)
        if config is not None:
            app.config = (FileOptions(config), split_numbers, whole_numbers)
        result: object = app(tokens, exit_on_error=False, print_error=False)
        return result


def parse(tokens: Sequence[str]) -> tuple[str, Any]:
    """Check a command line without running it.

    Returns:
        the command's name, and its configuration, None where it takes its options otherwise.

    Raises:
        CycloptsError, UsageError: it would be refused.
    """
    app = build_app()
    _, outer, _ = app.meta.parse_args(tokens, exit_on_error=False, print_error=False)
    path = outer.arguments.get("config")
    if path is not None:
        app.config = (FileOptions(path), split_numbers, whole_numbers)
    inner = outer.arguments.get("tokens", ())
    command, bound, _ = app.parse_args(inner, exit_on_error=False, print_error=False)
    return command.__name__, bound.arguments.get("config")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Errors that are the user's to mend end in one line on stderr; any other error is a defect
    of this program and keeps its traceback (exit code 1).
    """
    _log_to_stderr()
    _leave_cores_to_others()
    arguments = sys.argv[1:] if argv is None else argv
    try:
        for argument in arguments:
            if not is_text(argument):
                raise UsageError(f"the argument {argument!r} is not UTF-8, which all records are")
        with _forgiving_stdout(), stop_on_signals():
            result = build_app(brief=True).meta(arguments, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        return _fail(_user_error(error))
    except UnlearnableError as error:
        return _fail(str(error), error.exit_code)
    except UnavailableError as error:
        return _fail(f"{error}; run the same command to go on", error.exit_code)
    except Interrupted as stop:
        return _fail(str(stop), stop.exit_code)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return _fail(f"{str(error.filename)[:80]}...: {error.strerror}; check the path")
    return result if isinstance(result, int) else 0


class _ForgivingStream(io.TextIOWrapper):
    """Standard output whose reader may leave early, as ``head`` does: the rest is dropped."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except BrokenPipeError:
            self._give_up()
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except BrokenPipeError:
            self._give_up()

    def _give_up(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


@contextmanager
def _forgiving_stdout() -> Iterator[None]:
    """Let a command end with its own exit code though nobody reads its output to the end."""
    before = sys.stdout
    if before is not sys.__stdout__ or before is None:
        yield
        return
    before.flush()
    sys.stdout = _ForgivingStream(
        before.buffer, before.encoding, before.errors, line_buffering=True
    )
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stdout.detach()
        sys.stdout = before


def _leave_cores_to_others() -> None:
    # Read when torch starts. Threads that wait for one another would keep a core busy with waiting.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _log_to_stderr() -> None:
    # The messages of this package from INFO on; those of the libraries only when they warn.
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    logging.getLogger("unlearnable").setLevel(logging.INFO)


def _user_error(error: CycloptsError) -> str:
    """Return the message of a refused command line, in one line."""
    cause = error.__cause__
    if isinstance(error, UnusedCliTokensError):
        left = " ".join(error.unused_tokens or ())
        return f"too many arguments: {left}; quote a pattern, or the shell makes many words of it"
    return str(cause if isinstance(cause, UnlearnableError) else error)


def _fail(message: str, code: int = 2) -> int:
    print(f"unlearnable: {' '.join(message.split())}", file=sys.stderr)
    return code
