"""Fuzz one reader, guided by the coverage of this package and of the parsers below it.

    python tests/fuzz/run.py tar -runs=20000 -max_total_time=120

What comes behind the target's name goes to libFuzzer. Needs the extra `fuzz`. A find is written to
the file that libFuzzer names; give that file in place of the options to see it again.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["unlearnable", "tarfile", "json", "PIL"]):
    sys.path.insert(0, str(Path(__file__).parent))
    import targets


def main() -> None:
    target = targets.TARGETS[sys.argv[1]]
    corpus = Path(tempfile.mkdtemp(prefix="corpus-"))
    for number, seed in enumerate(targets.seeds()[sys.argv[1]]):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = ["-timeout=20", "-rss_limit_mb=2048", "-max_len=65536", *sys.argv[2:]]
    again = [option for option in sys.argv[2:] if not option.startswith("-")]
    atheris.Setup([sys.argv[0], *options, *([] if again else [str(corpus)])], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
