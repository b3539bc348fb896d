"""Faces: a folder of pictures for each identity, captioned with its name.

This is the layout of PubFig (Kumar et al., 2009) once its addresses are downloaded, and of the AT&T
database of faces (Samaria and Harter, 1994).
"""

import logging
import os
import re
from itertools import zip_longest
from pathlib import Path

from ...errors import UsageError
from .photos import TRAIN, Photo, check_keys, make_samples
from .source import check_text, is_image, plain_key, source_folder
from .writing import write_corpus

TEST = "test"

log = logging.getLogger(__name__)


def build_faces(
    src: str,
    out: str,
    template: str = "a photo of {name}",
    test_per_identity: int = 2,
    samples_per_shard: int = 1000,
) -> dict[str, int]:
    """Pack the pictures of every identity; return the number of samples by split.

    A sample is ``KEY.<ext>``, ``KEY.txt`` (the caption) and ``KEY.json`` (``captions``,
    ``identity``, ``source``, ``file``). Other formats than png, webp and jpeg become png.
    An identity is a folder that holds pictures, at any depth; its name, with spaces for ``_``, is
    the identity's name. Pictures are in the order of the numbers in their names.

    Args:
        src: folder of identities.
        out: folder URL, empty or new, outside ``src``.
        template: the caption; ``{name}`` stands for the name.
        test_per_identity: the last so many pictures of each identity go to ``test``.
        samples_per_shard: at least 1.

    Raises:
        UsageError: no or one identity, one without a picture to train on, two of one name,
            pictures outside, a template without ``{name}``, ``out`` not empty or in ``src``.
    """
    folder = source_folder(src, out)
    if "{name}" not in template:
        raise UsageError(f"the template must hold {{name}}: {template!r} does not")
    if test_per_identity < 0:
        raise UsageError(f"test_per_identity must be at least 0, not {test_per_identity}")
    train: list[list[Photo]] = []
    test: list[list[Photo]] = []
    for name, pictures in _find_identities(folder).items():
        cut = len(pictures) - test_per_identity
        if cut < 1:
            raise UsageError(
                f"{pictures[0].parent} holds {len(pictures)} pictures; with {test_per_identity} to "
                "test none is left to train on"
            )
        photos = [_describe(path, folder, name, template) for path in pictures]
        train.append(photos[:cut])
        test.append(photos[cut:])
    log.info("%d identities", len(train))
    groups = {TRAIN: _mixed(train), TEST: _mixed(test)}
    check_keys([photo for group in groups.values() for photo in group])
    samples = {split: make_samples(group) for split, group in groups.items() if group}
    return write_corpus(out, samples, samples_per_shard)


def _find_identities(folder: Path) -> dict[str, list[Path]]:
    """Return the pictures of each identity, by its name."""
    found: dict[str, list[Path]] = {}
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        pictures = [Path(root, name) for name in names if is_image(name)]
        if not pictures:
            continue
        if Path(root) == folder:
            raise UsageError(f"{min(pictures)} lies outside the folders of the identities")
        for path in pictures:
            check_text(f"the path of a picture in {folder}", str(path.relative_to(folder)))
        name = Path(root).name.replace("_", " ").strip()
        if name in found:
            raise UsageError(
                f"{found[name][0].parent} and {root} are both the identity {name!r}; merge or "
                "rename them"
            )
        found[name] = sorted(pictures, key=_natural)
    if len(found) < 2:
        raise UsageError(f"{folder} holds {len(found)} folders of pictures; one an identity is due")
    return dict(sorted(found.items(), key=lambda item: _natural(item[1][0].parent)))


def _natural(path: Path) -> list[tuple[int, str]]:
    """Order names by the numbers in them: 2.pgm before 10.pgm."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part)
        for part in re.split(r"(\d+)", path.name)
        if part
    ]


def _describe(path: Path, folder: Path, name: str, template: str) -> Photo:
    file = path.relative_to(folder)
    facts = {"identity": name, "source": folder.name, "file": file.as_posix()}
    key = plain_key(file.with_suffix("").as_posix())
    return Photo(path, key, [template.replace("{name}", name)], facts)


def _mixed(identities: list[list[Photo]]) -> list[Photo]:
    """Return everyone's first picture, then everyone's second, and so on.

    Batches follow the order in a shard: one person after the other would fill a batch with pictures
    of one caption, which contrastive training cannot tell apart.
    """
    rounds = zip_longest(*identities)
    return [photo for one in rounds for photo in one if photo is not None]
