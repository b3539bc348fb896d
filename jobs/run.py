"""``unlearnable run``: from a collection to a verified copy of it and a report, in one command."""

import logging
from dataclasses import dataclass, fields

from ..pipeline.data import storage
from ..pipeline.data.corpora.folder import FolderReport, build_folder, holds_pictures
from ..pipeline.data.plan import resolve_input
from ..pipeline.data.record import beside, find_record
from ..pipeline.errors import UsageError
from ..pipeline.execution.artifact import DESCRIPTION
from ..pipeline.execution.config import FitRunConfig, ProtectConfig
from ..pipeline.execution.driver.drive import check_running
from ..pipeline.execution.driver.progress import Steps
from ..pipeline.execution.driver.summary import RunSummary
from ..pipeline.execution.fit import FitSummary, asked_settings, check_fitted, fit, fit_settings
from ..pipeline.execution.options import step_of
from ..pipeline.execution.protect import protect
from ..pipeline.method.methods import get_method
from ..pipeline.plotting import require_matplotlib
from ..pipeline.report.config import ReportConfig
from ..pipeline.report.report import ReportSummary, report
from ..pipeline.verify.config import VerifyConfig
from ..pipeline.verify.findings import VerifyReport
from ..pipeline.verify.verify import verify
from .run_config import WholeRunConfig

log = logging.getLogger(__name__)

# Seconds on a small machine, for the time left before anything is measured: a fit of the smallest
# model, and each sample of the other steps.
_FIT = 60.0
_EACH = {"pack": 0.002, "protect": 0.04, "verify": 0.02, "report": 0.0}
_FIXED = 3.0
_SAMPLE_BYTES = 100_000


@dataclass(frozen=True)
class WholeRun:
    """The end of a whole run.

    Attributes:
        text: what is told at the end.
        exit_code: that of the step that failed; 0 when each succeeded.
    """

    text: str
    exit_code: int = 0

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class _Places:
    """URLs of all that a run makes, beside its output."""

    output: str
    shards: str
    surrogate: str
    record: str
    html: str
    packs: bool


def run(config: WholeRunConfig) -> WholeRun:
    """Fit, protect, verify and report; each step finds what an earlier run of it has done.

    Raises:
        UsageError: a step cannot be carried out as written.
        ShardError, ViolationError, StorageFullError: as the steps raise them.
        Interrupted: SIGINT or SIGTERM; the same call resumes.
    """
    config = check_running(config)
    require_matplotlib()
    if config.slice is not None:
        raise UsageError("run does all steps and takes no --slice; give it to `protect`")
    places = _find_places(config)
    todo = _Steps(config, places)
    with Steps(_expected(config, places, todo.names)) as steps:
        for name in todo.names:
            with steps.step(name):
                result = getattr(todo, name)()
            if isinstance(result, FolderReport):
                steps.samples = result.samples
                steps.expect(_seconds(result.samples))
            code = todo.failed(result)
            if code:
                return WholeRun(f"{result}\nthe run stops here: {name} ended with {code}", code)
            log.info("%s", result)
    return WholeRun(str(result) if config.dry_run else _told(places, todo.names))


def _find_places(config: WholeRunConfig) -> _Places:
    """Name what is made, and refuse what would be published or read by mistake."""
    output = config.output
    packs = holds_pictures(config.input)
    places = _Places(
        output=output,
        shards=_near(output, "-shards") if packs else config.input,
        surrogate=config.surrogate or _near(output, "-surrogate"),
        record=find_record(output, config.record),
        html=config.html or _near(output, "-report.html"),
        packs=packs,
    )
    for option, url in (("surrogate", places.surrogate), ("html", places.html)):
        if storage.is_inside(url, output):
            raise UsageError(
                f"{option} {url} is inside the output {output} and would be published with it; "
                "choose a place outside"
            )
    if packs and storage.is_inside(output, config.input):
        raise UsageError(f"{output} is inside {config.input}; choose an output folder outside it")
    return places


def _near(output: str, suffix: str) -> str:
    found = beside(output, suffix)
    if found is None:
        raise UsageError(
            f"nothing can lie beside {output}; give a folder in it, such as {output}/protected"
        )
    return found


class _Steps:
    """The steps of a run, each a method of its own."""

    def __init__(self, config: WholeRunConfig, places: _Places) -> None:
        self.config, self.places = config, places

    @property
    def names(self) -> list[str]:
        """The steps that are taken, in order."""
        config = self.config
        pack = ["pack"] if self.places.packs else []
        fits = ["fit"] if get_method(config.method).needs_surrogate else []
        return [*pack, *fits, "protect", *([] if config.dry_run else ["verify", "report"])]

    def pack(self) -> FolderReport:
        config = self.config
        shards = self.places.shards
        return build_folder(config.input, shards, config.captions, config.samples_per_shard)

    def fit(self) -> FitSummary:
        shards, surrogate = self.places.shards, self.places.surrogate
        if self.config.surrogate and storage.exists(storage.join(surrogate, DESCRIPTION)):
            return check_fitted(surrogate, _asked_of_fit(self.config))
        return fit(step_of(FitRunConfig, self.config, input=shards, output=surrogate, keep=True))

    def protect(self) -> RunSummary:
        places = self.places
        return protect(
            step_of(ProtectConfig, self.config, input=places.shards, surrogate=places.surrogate)
        )

    def verify(self) -> VerifyReport:
        return verify(step_of(VerifyConfig, self.config, against=self.places.shards))

    def report(self) -> ReportSummary:
        return report(step_of(ReportConfig, self.config, html=self.places.html))

    def failed(self, result: object) -> int:
        """Return the exit code that ``result`` stands for."""
        if isinstance(result, FolderReport):
            return 3 if result.lost > self.config.max_left_out else 0
        return int(getattr(result, "exit_code", 0))


def _asked_of_fit(config: WholeRunConfig) -> dict[str, object]:
    """Return what was asked of the fit alone, and differs from its defaults."""
    shared = {item.name for item in fields(ProtectConfig)} - {"trigger_words"}
    asked = step_of(FitRunConfig, config, input="", output="")
    changed = {
        item.name
        for item in fields(FitRunConfig)
        if item.name not in shared and vars(asked)[item.name] != item.default
    }
    settings = asked_settings(asked, fit_settings(asked))
    return {name: value for name, value in settings.items() if name in changed}


def _expected(config: WholeRunConfig, places: _Places, names: list[str]) -> dict[str, float]:
    """Guess the seconds of each step from the size of the input; what is measured corrects it."""
    size = 0
    if not places.packs:
        size = sum(shard.size or 0 for shard in resolve_input(config.input))
    seconds = _seconds(max(1, size // _SAMPLE_BYTES))
    return {name: seconds[name] for name in names}


def _seconds(samples: int) -> dict[str, float]:
    return {"fit": _FIT} | {name: _FIXED + each * samples for name, each in _EACH.items()}


def _told(places: _Places, names: list[str]) -> str:
    """Say what to publish and what to keep."""
    lines = [
        f"publish  {places.output}",
        f"         after `unlearnable publish {places.output}`, which looks for leaks once more",
        f"keep     {places.record}",
        "         the record: it undoes the protection of the captions",
    ]
    if "fit" in names:
        lines += [
            f"keep     {places.surrogate}",
            "         the surrogate: it holds the key to all patterns",
        ]
    lines += [
        f"look at  {places.html}",
        "         the report: it shows originals and triggers, so do not publish it",
    ]
    if places.packs:
        lines += [f"keep     {places.shards}", "         the originals as shards, for later checks"]
    return "\n".join(lines)
