"""Documentation that fails its tests: a command or option without help, or without an example, is not finished."""

import importlib.util
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.cli.lazy import COMMANDS, Entry, load
from schemas.topics import topics


def commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    """A command and all below it."""
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(f"{path} {name}", inner)


def load_or_skip(entry: Entry) -> Any:
    """Commands whose module is still to come are left out, and said so."""
    if importlib.util.find_spec(f"orchestrator.cli.{entry.module}") is None:
        pytest.skip(f"orchestrator.cli.{entry.module} is still to come")
    return load(entry)


@pytest.mark.parametrize("entry", COMMANDS, ids=lambda entry: entry.name)
def test_every_command_has_help_with_an_example(entry: Entry) -> None:
    for path, command in commands(entry.name, load_or_skip(entry)):
        assert command.help, f"jml {path} has no help"
        assert "Example" in command.help, f"the help of jml {path} has no example"
        assert "`jml " in command.help or "jml " in command.help.partition("Example")[2]


@pytest.mark.parametrize("entry", COMMANDS, ids=lambda entry: entry.name)
def test_every_option_and_argument_has_help(entry: Entry) -> None:
    for path, command in commands(entry.name, load_or_skip(entry)):
        for parameter in command.params:
            assert parameter.help, f"jml {path}: {parameter.name} has no help"


@pytest.mark.parametrize("entry", COMMANDS, ids=lambda entry: entry.name)
def test_the_overview_leads_to_the_command_of_that_name(entry: Entry) -> None:
    command = load_or_skip(entry)
    assert command.name in (entry.name, ""), "a group has no name of its own"
    assert entry.about.endswith(".")


def test_every_topic_says_what_it_is_about() -> None:
    assert all(topic.about for topic in topics(("crm",)))
