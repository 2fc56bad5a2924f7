"""Deterministic simulation: the production flows and roles on a virtual machine room, judged by what servers saw.

`loop` is the machine room (processes that can be killed, frozen and woken, in virtual time), `world` wires flows to
the in-memory ports of `orchestrator.testing`, `scenario` writes people's lives, `nemesis` breaks things, `oracle` says
who must have access in the end, `invariants` judges. `python -m orchestrator.simulation --seed N` replays one run.
"""
