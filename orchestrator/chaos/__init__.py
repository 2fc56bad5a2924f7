"""Chaos on real processes: the promises as figures, on the operator's own machine, broker and database.

Every role and every connected application is a process of its own. Roles are killed and paused, applications
misbehave, and at the end the verdict is read from what the applications wrote down, from the list of events that were
sent, and from the audit log; never from our own database.
"""
