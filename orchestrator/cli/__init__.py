"""The command `jml`: one module per command group, imported only when its command is called.

Whatever goes wrong that a person can put right is one line on standard error and exit code 2. A traceback is a defect.
"""

import logging
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer

from orchestrator.cli.lazy import LazyGroup
from orchestrator.errors import JmlError

USAGE = 2
INTERRUPTED = 130
BROKEN_PIPE = 1


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    # Libraries log what they also raise; the error is said once. A role configures logging for itself.
    for library in ("aiokafka", "cel"):
        logging.getLogger(library).addHandler(logging.NullHandler())
    try:
        code = _command().main(arguments, prog_name="jml", standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        return _refuse(_usage(error), error.exit_code)
    except JmlError as error:  # each is a sentence for an operator
        return _refuse(str(error), USAGE)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone, and the interpreter would try once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        if error.filename is None:
            raise
        return _refuse(f"{error.filename}: {error.strerror}", USAGE)
    return code if isinstance(code, int) else 0


def _refuse(message: str, code: int) -> int:
    """One line for each problem; most errors are one, a configuration may have several."""
    for line in message.splitlines():
        sys.stderr.write(f"jml: {line}\n")
    return code


def _usage(error: typer.TyperException) -> str:
    message = " ".join(error.format_message().split())
    context = getattr(error, "ctx", None)
    if not message or context is None:
        return message
    return f"{message.rstrip('.')} (see `{context.command_path} --help`)"


def _command() -> Any:
    return typer.main.get_command(app)


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from orchestrator.release import release

        typer.echo(f"jml {release()}")
        raise typer.Exit


@app.callback()
def jml(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Joiners, movers, leavers: identity changes in, SCIM commands out, every step audited.

    `jml demo` shows all of it within a minute. Every command has `--help` with an example; commands that print
    something print one JSON document instead with `--json`.
    """
