"""The tables: which victims each is made of, at either scale."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...errors import UsageError
from ...method.config import ANY_WORD
from ...method.methods import get_method
from .cells import Copy, Fit, Options, Source, Victim
from .config import PaperConfig


@dataclass(frozen=True)
class Scale:
    """Sizes of an experiment.

    Attributes:
        victim: options of `evaluate` for a victim from scratch.
        surrogate: options of `fit` for every surrogate.
        rounds: of the published schedule; its own 20 when None.
        clean_rounds: of 200 steps each, for the clean checkpoint of ``tap`` and ``uap``.
        transfer_rounds: as ``rounds``, for the surrogates of the transfer table.
        families: models of the transfer table.
        transfer: what the transfer table's victims change.
        finetune: what victims change that start from weights.
    """

    victim: Options
    surrogate: Options
    rounds: int | None
    clean_rounds: int | None
    transfer_rounds: int | None
    families: tuple[str, ...]
    transfer: Options
    finetune: Options


SCALES = {
    "cpu": Scale(
        victim={"model": "tiny", "context_length": 24, "epochs": 8},
        surrogate={"model": "tiny", "context_length": 24},
        rounds=6,
        clean_rounds=3,
        transfer_rounds=2,
        families=("tiny", "tiny-deep", "tiny-vit"),
        transfer={"epochs": 4},
        finetune={"epochs": 4, "lr": 1e-4},
    ),
    "gpu": Scale(
        victim={"model": "RN50", "epochs": 32},
        surrogate={"model": "RN50"},
        rounds=None,
        clean_rounds=None,
        transfer_rounds=None,
        families=("RN50", "RN101", "ViT-B-32"),
        transfer={},
        finetune={"epochs": 10, "lr": 1e-5},
    ),
}
_TOWERS: Options = {"image_size": 128, "context_length": 32}
_EPSILONS = (2, 4, 16)
_SHARES = (25, 50, 75)


@dataclass(frozen=True)
class _Making:
    """The copies and victims of one request."""

    config: PaperConfig
    scale: Scale

    def fit(self, source: Source = "whole", **options: Any) -> Fit:
        return Fit({**self.scale.surrogate, **options}, source)

    def published(self, words: int, **options: Any) -> Copy:
        """Protect by the published schedule."""
        settings = {"rounds": self.scale.rounds, **options}
        shuffled = {"shuffle": False} if settings.get("shuffle") is False else {}
        settings |= {"schedule": "paper", "trigger_words": words, "words": ANY_WORD}
        return Copy(shuffled, self.fit(**settings))

    def baseline(self, method: str, **options: Any) -> Copy:
        rounds = self.scale.rounds if get_method(method).alternates else self.scale.clean_rounds
        settings = {"rounds": rounds, **options}
        return Copy({"method": method}, self.fit(method=method, **settings))

    def default(self, words: int = 3, source: Source = "whole", **options: Any) -> Copy:
        fitted: Source = "fit" if self.config.fit_input is not None else source
        return Copy(options, self.fit(fitted, trigger_words=words), source)

    def victims(self, row: str, copy: Copy | None, **changes: Any) -> list[Victim]:
        """Return one victim a seed."""
        options = {**self.scale.victim, **changes.pop("options", {})}
        options["precision"] = self.config.precision
        return [Victim(row, options, (seed,), copy, **changes) for seed in self.config.seeds]


def _main(make: _Making) -> list[list[Victim]]:
    return [
        make.victims("clean", None),
        make.victims("random", Copy({"method": "random"})),
        make.victims("em", make.baseline("em", pgd_steps=8, rounds=make.scale.rounds or 20)),
        make.victims("em-authors", make.baseline("em", rounds=None)),
        make.victims("tap", make.baseline("tap")),
        make.victims("tap-untargeted", make.baseline("tap-untargeted")),
        make.victims("uap", make.baseline("uap")),
        make.victims("paper-mem3", make.published(3)),
        make.victims("paper-mem5", make.published(5)),
        make.victims("mem5", make.default(5)),
        make.victims("default", make.default()),
    ]


def _ablation(make: _Making) -> list[list[Victim]]:
    return [
        make.victims("clean", None),
        make.victims("default", make.default()),
        make.victims("no-topics", Copy({}, make.fit(topics=False))),
        make.victims("text", make.default(part="text")),
        make.victims("image", make.default(part="image")),
        *(make.victims(f"mem{words}", make.default(words)) for words in (1, 5, 7)),
        *(make.victims(f"epsilon{e}", make.default(epsilon=e)) for e in _EPSILONS),
        *(make.victims(f"share{s}", make.default(), share=s) for s in _SHARES),
        *(make.victims(f"paper-mem{words}", make.published(words)) for words in (1, 3, 5, 7)),
        make.victims("paper-mem3-no-shuffle", make.published(3, shuffle=False)),
        make.victims("paper-mem3-no-hotflip", make.published(3, hotflip_rounds=0)),
        make.victims("paper-mem3-batch64", make.published(3, batch_size=64)),
    ]


def _transfer(make: _Making) -> list[list[Victim]]:
    families, rounds = make.scale.families, make.scale.transfer_rounds
    copies: dict[str, Copy | None] = {"clean": None}
    copies |= {f"default {name}": Copy({}, make.fit(model=name)) for name in families}
    copies |= {f"paper {name}": make.published(3, model=name, rounds=rounds) for name in families}
    return [
        make.victims(f"{title} -> {name}", copy, options={"model": name, **make.scale.transfer})
        for title, copy in copies.items()
        for name in families
    ]


def _finetune(make: _Making) -> list[list[Victim]]:
    scale, init = make.scale, make.config.init
    if init is not None:
        rows = {"clean": None, "default": make.default(), "paper-mem3": make.published(3)}
        return [
            make.victims(f"init {row}", copy, options=scale.finetune, init=init)
            for row, copy in rows.items()
        ]
    return [*_halves(make), *_towers(make)]


def _halves(make: _Making) -> list[list[Victim]]:
    """Pretrain on the first half of the shards, go on with the second."""
    second = {"clean": None, "default": make.default(source="second")}
    start = make.victims("half: start", None, source="first", keeps_weights=True)
    tuned = []
    for name, copy in second.items():
        found = make.victims(f"half: {name}", copy, options=make.scale.finetune, source="second")
        tuned.append(
            [
                Victim(v.row, v.options, v.seeds, v.copy, start=first, source="second")
                for v, first in zip(found, start, strict=True)
            ]
        )
    return [start, *tuned]


def _towers(make: _Making) -> list[list[Victim]]:
    """Pretrained towers, frozen, with trained projections."""
    copies: dict[str, Copy | None] = {"clean": None, "default": make.default()}
    options: Options = {"model": "towers-frozen", "epochs": 10, "lr": 1e-3, **_TOWERS}
    # The features of the towers take most of the time, and are the same for all seeds.
    return [
        [Victim(v.row, v.options, make.config.seeds, v.copy)]
        for name, copy in copies.items()
        for v in make.victims(f"frozen towers: {name}", copy, options=options)[:1]
    ]


def _faces(make: _Making) -> list[list[Victim]]:
    copies = {
        "clean": None,
        "random": Copy({"method": "random"}),
        "default": make.default(),
        "paper-mem3": make.published(3),
    }
    named: Options = {"identities": True, "eval_every": 5, "batch_size": 32}
    frozen = {"model": "towers-frozen", "epochs": 30, "lr": 1e-3, **_TOWERS, **named}
    starts: dict[str, dict[str, Any]] = {"frozen towers": {"options": frozen}}
    if make.config.init is not None:
        tuned = {**make.scale.finetune, **named, "epochs": 20}
        starts["init"] = {"options": tuned, "init": make.config.init}
    return [
        make.victims(f"{title}: {name}", copy, **dict(changes))
        for title, changes in starts.items()
        for name, copy in copies.items()
    ]


_TABLES: dict[str, Callable[[_Making], list[list[Victim]]]] = {
    "main": _main,
    "ablation": _ablation,
    "transfer": _transfer,
    "finetune": _finetune,
    "faces": _faces,
}


def victims_of(config: PaperConfig) -> list[Victim]:
    """Return every victim of a table, row by row."""
    making = _Making(config, SCALES[config.scale])
    return [victim for row in _TABLES[config.table](making) for victim in row]


def wanted(config: PaperConfig, victims: list[Victim]) -> list[Victim]:
    """Return those that ``--only`` names.

    Raises:
        UsageError: a name is no row of the table.
    """
    names = list(dict.fromkeys(victim.row for victim in victims))
    unknown = [name for name in config.only if name not in names]
    if unknown:
        raise UsageError(
            f"the table {config.table} has no row {unknown[0]!r}; its rows: {', '.join(names)}"
        )
    return [victim for victim in victims if not config.only or victim.row in config.only]
