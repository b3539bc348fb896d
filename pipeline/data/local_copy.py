"""Files of any store as local files, for readers that need to jump about in them."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import storage


@contextmanager
def local_copy(url: str) -> Iterator[Path]:
    """Yield a local path of the file at ``url``: its own, or that of a temporary copy.

    Raises:
        OSError: it cannot be read.
        UsageError: no space for the copy.
    """
    path = storage.local_path(url)
    if path is not None:
        yield path
        return
    with tempfile.NamedTemporaryFile(prefix="unlearnable-") as copy:
        with storage.open_read(url) as source, storage.explained(tempfile.gettempdir()):
            shutil.copyfileobj(source, copy, 1 << 20)
        copy.flush()
        yield Path(copy.name)
