"""The commands that are a configuration and a function: a line each."""

import importlib
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Annotated, Any

from cyclopts import Parameter

# The configuration, from which options and their help are made, and the function that takes it.
TABLE = {
    "run": ("jobs.run_config:WholeRunConfig", "jobs.run:run"),
    "fit": ("execution.config:FitRunConfig", "execution.fit:fit"),
    "preview": ("report.config:PreviewConfig", "report.preview:preview"),
    "protect": ("execution.config:ProtectConfig", "execution.protect:protect"),
    "verify": ("verify.config:VerifyConfig", "verify.verify:verify"),
    "publish": ("execution.config:PublishConfig", "execution.publish:publish"),
    "evaluate": ("evaluate.config:EvaluateConfig", "evaluate.tables:evaluated"),
    "status": ("execution.config:StatusConfig", "execution.status:status"),
    "report": ("report.config:ReportConfig", "report.report:report"),
    "retry": ("execution.config:RetryConfig", "execution.retry:retry"),
    "restore": ("execution.config:RestoreConfig", "execution.restore:restore"),
    "paper": ("experiments.paper.config:PaperConfig", "experiments.paper.run:paper"),
    "bench": ("experiments.bench.config:BenchConfig", "experiments.bench.run:run_bench"),
}


def __getattr__(name: str) -> Callable[..., int]:
    """Make the command of that name on first use (PEP 562)."""
    if name not in TABLE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    configuration, function = TABLE[name]
    kind: Any = _load(configuration)

    def command(config: Any) -> int:
        # Loaded when it runs: the help of a command must not wait for torch.
        result = _load(function)(config)
        # A list was shown item by item.
        if result is not None and not isinstance(result, list):
            print(result.to_json() if "json" in vars(config) and config.json else result)
        return int(getattr(result, "exit_code", 0))

    command.__name__ = name
    command.__annotations__ = {"config": Annotated[kind, Parameter(name="*")], "return": int}
    if all(item.default is not MISSING for item in fields(kind)):
        command.__defaults__ = (kind(),)
    return command


def _load(target: str) -> Any:
    module, name = target.split(":")
    inside = module if module.startswith("jobs.") else f"pipeline.{module}"
    return getattr(importlib.import_module(f"..{inside}", __package__), name)
