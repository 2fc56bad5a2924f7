"""HR systems and identity providers, one module each. A module that is added to this package is a source at once."""

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from orchestrator.sources.base import Source

_CONTRACT = "base"


@cache
def sources() -> dict[str, Source]:
    """Every source by its NAME. A module that does not keep the contract is our mistake, and said so at once."""
    found: dict[str, Source] = {}
    for module in iter_modules(__path__):
        if module.name == _CONTRACT or module.name.startswith("_"):
            continue
        source = import_module(f"{__name__}.{module.name}")
        if not isinstance(source, Source):
            raise TypeError(f"{source.__name__} has no NAME or no events(folder), see {__name__}.{_CONTRACT}")
        found[source.NAME] = source
    return found
