"""The suites of the stores once more, on the store in memory.

Each module here imports a suite whole. `database` is a MemoryStore, and what the suites build from a database (a store,
another process's view of it) is its facet for that port. Tests that look into SQL tables have nothing to see here.
"""

import types
from collections.abc import Callable

import pytest

from orchestrator.testing.store import MemoryStore
from tests.contract import rows

_FACETS: dict[str, Callable[[MemoryStore], object]] = {
    "SqlResolveStore": lambda store: store.resolve,
    "SqlConvergeStore": lambda store: store.converge,
    "SqlTimerStore": lambda store: store.timers,
    "SqlAttentionStore": lambda store: store.attention,
    "SqlOutbox": lambda store: store.outbox,
    "SqlSubjectStore": lambda store: store.subjects,
    "SqlOperatorStore": lambda store: store.holds,
}

_ABOUT_SQL = {
    "test_a_new_revision_is_looked_after_until_it_is_done",
    "test_quarantined_bytes_survive",
    "test_a_refused_statement_names_no_person_and_is_not_tried_again",
    "test_two_resolvers_accept_one_event_once",
    "test_an_account_without_attention_is_left_alone",
    "test_a_sweep_reads_what_is_due_and_nothing_else",
}


class SharedStore(MemoryStore):
    """A store that answers the two questions that the suites ask of a database."""

    is_sqlite = False

    async def close(self) -> None:
        """There is no connection."""


@pytest.fixture
def database() -> SharedStore:
    """A store of this test's own; it takes the place of the databases."""
    return SharedStore()


@pytest.fixture(autouse=True)
def in_memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the suite takes for adapters is in memory."""
    if request.function.__name__ in _ABOUT_SQL:
        pytest.skip("looks into SQL tables")
    suite = request.function.__module__
    for module in (_module(suite), rows):
        for name, facet in _FACETS.items():
            if hasattr(module, name):
                monkeypatch.setattr(module, name, facet)
        if hasattr(module, "another"):
            monkeypatch.setattr(module, "another", lambda store: store)


def _module(name: str) -> types.ModuleType:
    return __import__(name, fromlist=["*"])
