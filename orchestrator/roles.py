"""The roles that are installed, by the names that `jml run` takes. They register as entry points `jml.roles`."""

from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points

from orchestrator.bootstrap import Role, Runtime
from orchestrator.errors import UserError

MakeRole = Callable[[Runtime], Role]
GROUP = "jml.roles"


def role_names() -> tuple[str, ...]:
    """Every installed role."""
    return tuple(sorted(point.name for point in entry_points(group=GROUP)))


@cache  # a look at what is installed reads the names of all distributions
def role(name: str) -> MakeRole:
    """What makes the role. Raises UserError for a name that is not installed."""
    found = list(entry_points(group=GROUP, name=name))
    if not found:
        raise UserError(f"there is no role {name!r}; the roles are {', '.join(role_names())}")
    make: MakeRole = found[0].load()
    return make
