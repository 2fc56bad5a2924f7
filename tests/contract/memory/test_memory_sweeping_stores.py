"""`ports` in memory: the suite of the SQL stores, on a MemoryStore."""

from tests.contract.test_sweeping_stores import *  # noqa: F403
