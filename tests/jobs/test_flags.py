"""The options of the command line are a contract: who changes one changes it here, on purpose."""

from __future__ import annotations

import pytest
from cyclopts import App

from unlearnable.jobs.cli import build_app

FLAGS = {
    "run": """
        --again --batch-size --caption-fields --captions --compile
        --context-length --device --drop-location --dry-run --epsilon --executor
        --gpus-per-worker --images --reserve
        --grace-seconds --hotflip-rounds --html --image-format --image-size --input --io-threads
        --join --key --log-file --losses --max-attempts --max-left-out --max-pixels
        --max-quarantined
        --max-samples --method --model --output --owner --part --pgd-steps --pixel-budget
        --precision --record --rounds --samples-per-shard --schedule --seed --shard-timeout
        --shuffle --slice --strength --steps --steps-per-round --surrogate --topics
        --torch-threads --trigger-words --views --vocabulary --words
        --worker-price --workers
        --title --language --usage --license
    """,
    "data openmoji": "--out --seed --size --test-share",
    "data folder": "--captions --max-left-out --out --samples-per-shard --src",
    "data flickr8k": "--out --samples-per-shard --splits --src",
    "data flickr30k": "--out --samples-per-shard --splits --src",
    "data coco": "--out --samples-per-shard --splits --src",
    "data faces": "--out --samples-per-shard --src --template --test-per-identity",
    "data parquet": """
        --caption-column --drop --image-column --max-left-out --out --samples-per-shard --src
    """,
    "data export": "--caption-column --image-column --like --out --source",
    "data resize": "--format --out --size --source",
    "fit": """
        --again --batch-size --caption-fields --context-length --device
        --epsilon --hotflip-rounds --image-size --input --keep --key --max-pixels --max-samples
        --method --model --output --overwrite
        --pgd-steps --rounds --schedule --seed --shuffle --steps-per-round --strength
        --topics
        --torch-threads --trigger-words --views --vocabulary --words
    """,
    "preview": """
        --caption-fields --epsilon --input --max-pixels --n --output --seed --surrogate
        --trigger-words
    """,
    "protect": """
        --again --batch-size --caption-fields --compile --device --drop-location --dry-run --epsilon
        --executor --gpus-per-worker --grace-seconds --log-file --shard-timeout
        --image-format --images --input --io-threads --join --losses --max-attempts --max-pixels
        --max-quarantined --method --output --owner --part --pixel-budget --precision --record
        --reserve
        --seed --shuffle --slice --steps
        --surrogate --torch-threads --trigger-words --views --worker-price --workers
        --title --language --usage --license
    """,
    "verify": """
        --against --executor --json --max-listed --max-pixels --output --record
        --sample-shards --seed
        --shard-timeout --threads --workers
    """,
    "publish": "--destination --output --private --record",
    "submit": "--address --command --runtime-env --stop-seconds --working-dir",
    "evaluate": """
        --attack --batch-size --caption-fields --captions --clean --context-length --device --epochs
        --eval-every --identities --image-size --init --lr --max-pixels --model --output --own
        --plot --plot-attacks --precision --seeds --test --threads --train --weight-decay --weights
        --workers
    """,
    "status": "--json --output --record --shard --watch",
    "report": "--against --html --output --record --results --samples --seed",
    "retry": """
        --device --executor --gpus-per-worker --grace-seconds --join --log-file --max-attempts
        --output --record --shard-timeout --shards --surrogate --workers
    """,
    "restore": "--destination --output --record",
    "paper": """
        --device --dry-run --fit-input --init --input --measured --only --output --precision --scale
        --seeds --table --test --threads
    """,
    "bench": """
        --batch-size --device --image-size --model --only --plot --record --samples --scale
        --shards --torch-threads
    """,
    "demo": "--output --seed",
}


def flags(command: str) -> str:
    app = build_app()
    for name in command.split():
        app = app[name]
    names = [name for argument in app.assemble_argument_collection() for name in argument.names]
    shown = (name for name in names if name != "*" and not name.startswith(("--no-", "--empty-")))
    return " ".join(sorted(shown))


def commands(app: App) -> list[str]:
    found = []
    for name in app:
        if not name.startswith("-"):
            inner = commands(app[name])
            found += [f"{name} {command}" for command in inner] or [name]
    return found


def test_every_command_is_frozen() -> None:
    assert set(commands(build_app())) == set(FLAGS)


@pytest.mark.parametrize("command", FLAGS)
def test_flags(command: str) -> None:
    assert flags(command) == " ".join(sorted(FLAGS[command].split()))
