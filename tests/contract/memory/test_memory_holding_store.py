"""The breaker's part of the stores' contracts, in memory."""

from tests.contract.test_holding_store import *  # noqa: F403 - the suite whole
