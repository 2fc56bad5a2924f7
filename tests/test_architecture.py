"""The rules of the house that a linter does not know: who may import whom, who may ask for the time, how long is long.

An exception to a rule is named here, with its reason.
"""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

from orchestrator.log import ALLOWED
from orchestrator.roles import role_names
from orchestrator.schema_export import MESSAGES, type_of

ROOT = Path(__file__).parents[1]
PACKAGES = ("schemas", "orchestrator", "workers")
MODULES = {
    path.relative_to(ROOT).as_posix(): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}

LONGEST_MODULE = 500
LONGEST_WORKER = 100

LONG: dict[str, int] = {}
"""Longer modules, each with a limit of its own: an exception is no licence."""

ASKS_FOR_THE_TIME = {
    "orchestrator/adapters/clock.py": "the system's clock",
    "orchestrator/demo/servers/directory.py": "an application of its own, not a part of us: meta.lastModified",
    "orchestrator/demo/servers/journal.py": "the witness has a clock of its own, or it would be none",
    "workers/scheduler.py": "APScheduler runs by the machine's clock, ours may be simulated",
}

WRITES_TO_STANDARD_OUTPUT = {
    "orchestrator/bench/bare.py": "a process of the floor says that it is ready to whoever started it",
    "orchestrator/demo/servers/serve.py": "a server of the demo announces its address to whoever started it",
    "orchestrator/simulation/__main__.py": "a command of its own, to replay a seed",
}

SWALLOWS = {
    "orchestrator/adapters/kafka/consuming.py": "handed to whoever runs the role, which then ends",
    "orchestrator/flows/account_queues.py": "handed to whoever runs the role, which then ends",
    "orchestrator/flows/group_commit.py": "handed to those who wait, so that their process ends by it",
    "orchestrator/flows/membership.py": "handed to those who wait, who know what it means",
}
"""Modules in which `except Exception` raises nothing itself but hands the error over."""

HANDS_OVER = {"set_exception", "set_result", "_fail"}

KNOWS_ADAPTERS = {
    "orchestrator/bench/": "measures them",
    "orchestrator/bootstrap.py": "wires them",
    "orchestrator/chaos/": "starts and watches real roles from outside",
    "orchestrator/cli/": "services, and the endpoint for health",
    "orchestrator/demo/play.py": "the simulated clock, and what is left to do",
    "orchestrator/simulation/": "plays the roles in a world of its own",
    "orchestrator/testing/": "the simulated clock, and errors as the adapters tell them",
    "workers/": "wire what only they need",
}


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def called(node: ast.Call) -> str:
    """`datetime.now` of `datetime.now(UTC)`."""
    return ast.unparse(node.func)


def modules_where(holds: Callable[[ast.AST], bool], but: str = "") -> set[str]:
    return {name for name, tree in TREES.items() if not (but and name.startswith(but)) and holds(tree)}


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


# --- imports ----------------------------------------------------------------------------------------------------------


def test_imports_point_one_way(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    status = lint_imports(config_filename="pyproject.toml", no_cache=True, no_logo=True)
    assert status == EXIT_STATUS_SUCCESS, capsys.readouterr().out


def test_only_those_who_wire_know_adapters() -> None:
    knowing = modules_where(
        lambda tree: any(name.startswith("orchestrator.adapters") for name in imported(tree)),
        but="orchestrator/adapters/",
    )
    assert {name for name in knowing if not name.startswith(tuple(KNOWS_ADAPTERS))} == set()


def test_domain_and_schemas_do_no_input_or_output() -> None:
    forbidden = {"asyncio", "httpx", "io", "logging", "os", "pathlib", "socket", "sqlite3", "structlog", "time"}
    for name, tree in TREES.items():
        if name.startswith(("orchestrator/domain/", "schemas/")):
            assert forbidden.isdisjoint(module.partition(".")[0] for module in imported(tree)), name


# --- time -------------------------------------------------------------------------------------------------------------


def test_only_the_clock_asks_for_the_time() -> None:
    asks = re.compile(r"(datetime|date|dt)\.(now|utcnow|today)|time\.time(_ns)?")
    asking = modules_where(lambda tree: any(asks.fullmatch(called(node)) for node in calls(tree)))
    assert asking == ASKS_FOR_THE_TIME.keys()


# --- size -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_short_enough_to_be_read(name: str) -> None:
    assert len(MODULES[name].read_text().splitlines()) <= LONG.get(name, LONGEST_MODULE)


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("workers/")])
def test_a_worker_is_read_at_one_look(name: str) -> None:
    assert len(MODULES[name].read_text().splitlines()) <= LONGEST_WORKER


def test_every_worker_is_a_role() -> None:
    files = {Path(name).stem for name in MODULES if name.startswith("workers/")} - {"__init__"}
    assert files == set(role_names())


# --- errors -----------------------------------------------------------------------------------------------------------


def catches_everything(handler: ast.ExceptHandler) -> bool:
    caught = [] if handler.type is None else [ast.unparse(node) for node in ast.walk(handler.type)]
    return handler.type is None or bool({"Exception", "BaseException"} & set(caught))


def raises(handler: ast.ExceptHandler) -> bool:
    return any(isinstance(node, ast.Raise) for node in ast.walk(handler))


def hands_over(handler: ast.ExceptHandler) -> bool:
    return any(called(node).rpartition(".")[2] in HANDS_OVER for node in calls(handler))


def test_nobody_swallows_what_they_do_not_know() -> None:
    swallowing = set()
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler) and catches_everything(node) and not raises(node):
                assert hands_over(node), f"{name}:{node.lineno} catches everything and keeps it"
                swallowing.add(name)
    assert swallowing <= SWALLOWS.keys()


# --- output -----------------------------------------------------------------------------------------------------------


def test_only_the_command_line_prints() -> None:
    def prints(tree: ast.AST) -> bool:
        return any(called(node) in ("print", "sys.stdout.write", "sys.stderr.write") for node in calls(tree))

    assert modules_where(prints, but="orchestrator/cli/") == WRITES_TO_STANDARD_OUTPUT.keys()


# --- contracts --------------------------------------------------------------------------------------------------------


def test_types_of_messages_are_unique_and_versioned() -> None:
    types = [type_of(model) for model in MESSAGES]
    assert len(types) == len(set(types))
    assert all(re.fullmatch(r"jml(\.[a-z_]+)+\.v[1-9]\d*", one) for one in types)


def test_every_type_that_is_written_down_is_exported() -> None:
    """A message that `jml schema export` forgets has no contract."""
    written = {
        node.value.value
        for name, tree in TREES.items()
        if name.startswith("schemas/")
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign | ast.AnnAssign)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        and "TYPE" in {ast.unparse(target) for target in getattr(node, "targets", [getattr(node, "target", None)])}
    }
    assert written == {type_of(model) for model in MESSAGES}


@pytest.mark.parametrize("name", TREES)
def test_what_is_logged_is_allowed_to_be(name: str) -> None:
    """What is not allowed is dropped when it is logged, so nobody would miss it before the night it is needed."""
    calls = [node for node in ast.walk(TREES[name]) if isinstance(node, ast.Call)]
    logged = {
        keyword.arg
        for call in calls
        if isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == "log"
        for keyword in call.keywords
        if keyword.arg is not None
    }
    assert logged <= ALLOWED
