"""A mapping whose values lie on the local disk: small things of a hundred thousand shards."""

import errno
import sqlite3
import tempfile
import weakref
from collections.abc import Callable, Iterator, MutableMapping
from typing import Generic, TypeVar

from .local_files import explained

T = TypeVar("T")


class DiskMap(MutableMapping[str, T], Generic[T]):
    """Values by name, in the order of the names.

    It lies in a temporary file without a name, which goes with the object. While it is iterated it
    must not be changed. Setting a value raises UsageError where no space is left.

    Args:
        encode: makes a text of a value.
        decode: makes the value of that text again.
    """

    def __init__(self, encode: Callable[[T], str], decode: Callable[[str], T]) -> None:
        self._encode, self._decode = encode, decode
        # Whichever thread collects the garbage closes it.
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self._db.close)
        # It is never read by anyone else nor after a crash.
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("PRAGMA cache_size = -500")
        self._db.execute("CREATE TABLE entries (name BLOB PRIMARY KEY, value TEXT) WITHOUT ROWID")

    def __getitem__(self, name: str) -> T:
        row = self._db.execute("SELECT value FROM entries WHERE name = ?", (_key(name),)).fetchone()
        if row is None:
            raise KeyError(name)
        return self._decode(row[0])

    def __setitem__(self, name: str, value: T) -> None:
        entry = _key(name), self._encode(value)
        with explained(f"temporary files in {tempfile.gettempdir()}"):
            try:
                self._db.execute("INSERT OR REPLACE INTO entries VALUES (?, ?)", entry)
            except sqlite3.OperationalError as error:
                full = error.sqlite_errorcode == sqlite3.SQLITE_FULL
                raise OSError(errno.ENOSPC if full else errno.EIO, str(error)) from error

    def __delitem__(self, name: str) -> None:
        if not self._db.execute("DELETE FROM entries WHERE name = ?", (_key(name),)).rowcount:
            raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        found = self._db.execute("SELECT 1 FROM entries WHERE name = ?", (_key(name),))
        return found.fetchone() is not None

    def __iter__(self) -> Iterator[str]:
        for (name,) in self._db.execute("SELECT name FROM entries ORDER BY name"):
            yield name.decode("utf-8", "surrogatepass")

    def __len__(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM entries").fetchone()[0])


def _key(name: str) -> bytes:
    # Names of files need not be valid text.
    return name.encode("utf-8", "surrogatepass")
