"""The list of all commands, and a group that imports a command's module only when it is called.

`jml --help` has to be fast, and importing every adapter for it would take a second. So what the overview says of a
command stands here, beside the name of its module.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

RUN, SEND, WATCH, PROVE, SET_UP = "Run", "Send", "Watch and repair", "Prove", "Set up"


@dataclass(frozen=True, slots=True)
class Entry:
    """One command of `jml`. `module` has an `app`, which is the command, or holds it among others."""

    name: str
    module: str
    panel: str
    about: str


COMMANDS = (
    Entry("demo", "running", RUN, "The working lives of 1,000 people, start to end, on this machine."),
    Entry("up", "running", RUN, "All roles in one process."),
    Entry("run", "running", RUN, "One role: resolver, connector, scheduler, relay, auditor or notifier."),
    Entry("demo-app", "running", RUN, "A SCIM server to connect to, for trying things out."),
    Entry("bench", "bench", RUN, "Measure throughput and memory on this machine."),
    Entry("events", "events", SEND, "Publish identity changes from JSON lines."),
    Entry("hr", "hr", SEND, "Publish identity changes from an export of an HR system."),
    Entry("import", "adopt", SEND, "Persons out of the accounts of an application that was filled before."),
    Entry("migrate", "migrate", SEND, "Carry accounts from one application over to another, names kept."),
    Entry("extend", "operator", SEND, "Give a contractor a later end of contract."),
    Entry("end", "operator", SEND, "End everything a person has, now."),
    Entry("status", "status", WATCH, "Persons, accounts, timers and applications in one look."),
    Entry("lag", "lag", WATCH, "How far each role is behind, in messages and seconds."),
    Entry("plan", "plan", WATCH, "What would be sent, now or under another policy, without sending it."),
    Entry("policy", "policy", WATCH, "Have everybody decided anew after a change of the policy."),
    Entry("reconcile", "reconcile", WATCH, "Hold what an application holds against what it should hold; put it right."),
    Entry("due", "due", WATCH, "What comes: ends, starts and changes by their instants; and what is overdue."),
    Entry("timers", "timers", WATCH, "One person's timers: open, fired and cancelled."),
    Entry("person", "person", WATCH, "One person over all applications, with the timeline."),
    Entry("parked", "parked", WATCH, "Accounts that wait for a decision of yours."),
    Entry("accounts", "accounts", WATCH, "Say whose an account of an application is."),
    Entry("notices", "notices", WATCH, "Notices that nobody took yet, or ever."),
    Entry("held", "held", WATCH, "Commands that take away more access than the breaker lets pass."),
    Entry("apps", "apps", WATCH, "How the applications are doing; stop and start calls to them."),
    Entry("quarantine", "quarantine", WATCH, "Records that nobody could read."),
    Entry("health", "health", WATCH, "Ask a running role whether it is well."),
    Entry("audit", "audit", PROVE, "Read, search, export, verify and prove the audit log."),
    Entry("access", "access", PROVE, "Who had what, when and why, rebuilt from the audit log."),
    Entry("report", "report", PROVE, "Reports for auditors: leavers, joiners, access, orphans and more."),
    Entry("chaos", "chaos", PROVE, "Kill roles, let applications misbehave, and judge what comes of it."),
    Entry("config", "config", SET_UP, "Write, check and show the configuration."),
    Entry("db", "db", SET_UP, "Create and migrate the database."),
    Entry("topics", "topics", SET_UP, "Create the topics on a Kafka broker."),
    Entry("schema", "schema", SET_UP, "JSON Schemas and AsyncAPI of all messages; check events against them."),
)


class _Stub(TyperCommand):
    """A command as the overview shows it."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(entry.name, help=entry.about, rich_help_panel=entry.panel)
        self.entry = entry


class LazyGroup(TyperGroup):
    """The group of all commands."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for entry in COMMANDS:
            self.add_command(_Stub(entry))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The real command in place of its stub."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, load(command.entry) if isinstance(command, _Stub) else command, rest


def load(entry: Entry, package: Sequence[str] = ("orchestrator", "cli")) -> Any:
    """Import a command."""
    module = import_module(".".join((*package, entry.module)))
    command = typer.main.get_command(module.app)
    return getattr(command, "commands", {}).get(entry.name, command)
