"""The ports in memory, shipped: store, broker, clocks and a SCIM server, each with the failures that real ones have.

They pass the contract suites of the adapters they stand for (`tests/contract/memory`), and carry the simulation.
"""
