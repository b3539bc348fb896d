"""The methods by name, one file each; a new one is a file and a line here.

Each module has a constant ``METHOD``, an instance of `base.Method`. Modules are imported when their
method is used: the command line names methods without loading torch.
"""

import importlib
from typing import TYPE_CHECKING

from ...errors import UsageError

if TYPE_CHECKING:
    from .base import Method

METHODS = {
    "mem": ".mem",
    "em": ".em",
    "tap": ".tap",
    "tap-untargeted": ".tap_untargeted",
    "uap": ".uap",
    "random": ".random",
}

CODE = "code"
"""What a copy of ``mem`` is called whose patterns were laid without any step."""


def get_method(name: str) -> "Method":
    """Return the method of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in METHODS:
        raise UsageError(f"method {name!r} is none of {', '.join(METHODS)}")
    method: Method = importlib.import_module(METHODS[name], __name__).METHOD
    return method
