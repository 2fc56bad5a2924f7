"""Benchmarks: every figure beside its floor, what the same machine does with the bare libraries in the same run.

Absolute figures belong to one machine; the ratio to the floor is what a change of the code moves.
"""
