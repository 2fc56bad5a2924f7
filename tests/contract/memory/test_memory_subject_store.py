"""`ports` in memory: the suite of the SQL stores, on a MemoryStore."""

from tests.contract.test_subject_store import *  # noqa: F403
