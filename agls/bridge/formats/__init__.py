"""What incidents are told in: one module for each format, each a projection of the one incident record.

A module brings ``document(record: IncidentRecord, dialect: Dialect) -> bytes`` and, where it is not JSON,
``CONTENT_TYPE``. What several of them say, in the same words, is in `_wording`.
"""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from pkgutil import iter_modules

from agls.bridge.record import IncidentRecord
from agls.config import Dialect


def names() -> tuple[str, ...]:
    """List the formats.

    Returns
    -------
    tuple of str
        Names of the modules here.
    """
    return tuple(sorted(module.name for module in iter_modules(__path__) if not module.name.startswith("_")))


def load(name: str, dialect: Dialect | None = None) -> tuple[Callable[[IncidentRecord], bytes], str]:
    """Find what writes a format.

    Parameters
    ----------
    name : str
        One of `names`.
    dialect : Dialect, optional
        What the format leaves to agreement; as usual if not given.

    Returns
    -------
    document : callable
        From a record to bytes.
    content_type : str
        What the bytes are.
    """
    module = import_module(f"{__name__}.{name}")
    return partial(module.document, dialect=dialect or Dialect()), getattr(module, "CONTENT_TYPE", "application/json")
