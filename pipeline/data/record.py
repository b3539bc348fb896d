"""Where the record of an output lies: what only its owner keeps, and what undoes the protection.

The output may be published; manifests, ledger, plan, leases and log are the record, in a folder of
its own: ``OUTPUT-record``, or another URL.
"""

from ..errors import UsageError
from . import storage
from .plan import PLAN_NAME

SUFFIX = "-record"


def find_record(output: str, given: str | None = None) -> str:
    """Return the URL of the record of ``output``.

    Args:
        output: URL of the output directory.
        given: where the user says that it is, None for ``OUTPUT-record``. A copy that version
            0.1.0 wrote has its record inside; its own URL is returned.

    Raises:
        UsageError: the record is known to be elsewhere, or would be published with the output.
    """
    usual = beside(output)
    if _has_plan(output):
        if given is not None and not _same(given, output):
            raise UsageError(
                f"{output} has its record inside it, as version 0.1.0 wrote it; leave --record "
                f"out, or move manifest/, _ledger/, _plan.parquet and _log/ to {given} first"
            )
        return output
    if given is None:
        if usual is None:
            raise UsageError(f"no folder can lie beside {output}; give --record")
        return usual
    if storage.is_inside(given, output):
        raise UsageError(
            f"the record {given} is inside the output {output} and would be published with it; "
            f"choose a folder outside"
        )
    if usual is not None and not _same(given, usual) and _has_plan(usual):
        raise UsageError(
            f"the record of {output} is {usual}, not {given}; leave --record out, or move it"
        )
    return given


def no_run(output: str, record: str) -> UsageError:
    """Return the error of a command that needs a record where there is none."""
    return UsageError(
        f"{output} holds no run: there is no plan in {record}; give the folder that protect writes "
        f"to, and --record when its record is not beside it"
    )


def beside(output: str, suffix: str = SUFFIX) -> str | None:
    """Return the URL of what belongs to ``output`` and lies beside it; None where nothing can."""
    bare = output.rstrip("/")
    path = storage.local_path(output)
    if path is None:
        # A bucket has no folder beside it.
        return bare + suffix if "/" in bare.partition("://")[2] or "memory:" in bare else None
    if storage.base_name(bare) in ("", ".", ".."):
        path = path.resolve()
        return f"{path}{suffix}" if path.name else None
    return bare + suffix


def _has_plan(folder: str) -> bool:
    return storage.exists(storage.join(folder, PLAN_NAME))


def _same(one: str, other: str) -> bool:
    return storage.is_inside(one, other) and storage.is_inside(other, one)
