"""Options that many commands share, so that they are called and behave the same everywhere."""

import asyncio
import gc
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from orchestrator.config import Config, load_config

T = TypeVar("T")

DEFAULT_CONFIG = Path("jml.toml")

ConfigPath = Annotated[
    Path, typer.Option("--config", "-c", envvar="JML_CONFIG", help="The configuration file.", metavar="PATH")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
AppName = Annotated[str | None, typer.Option("--app", "-a", help="Only this application.", metavar="APP")]


def load(path: Path) -> Config:
    """The configuration. Raises ConfigError with every problem at once."""
    return load_config(path)


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's asynchronous part; Ctrl-C cancels it and its clean-up runs."""
    return asyncio.run(work)


def run_service(work: Coroutine[Any, Any, T]) -> T:
    """Run work that keeps a core busy: on a fast event loop, with a collector that looks less often.

    A role makes and drops a hundred thousand small objects a second, none of them in cycles; with Python's default
    thresholds a tenth of its time goes into looking for some.
    """
    from orchestrator.adapters.event_loop import new_event_loop

    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(work)
