"""Applications as they really behave, one module each. A module that is added to this package is a dialect at once."""

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from orchestrator.dialects.base import Dialect

_CONTRACT = "base"
STANDARD = "standard"


@cache
def dialects() -> dict[str, Dialect]:
    """Every dialect by its name. A module that does not keep the contract is our mistake, and said so at once."""
    found: dict[str, Dialect] = {}
    for module in iter_modules(__path__):
        if module.name == _CONTRACT or module.name.startswith("_"):
            continue
        described = import_module(f"{__name__}.{module.name}")
        for value in vars(described).values():
            if isinstance(value, Dialect):
                found[value.name] = value
        if not any(isinstance(value, Dialect) for value in vars(described).values()):
            raise TypeError(f"{described.__name__} describes no Dialect, see {__name__}.{_CONTRACT}")
    return dict(sorted(found.items()))
