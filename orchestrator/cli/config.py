"""`jml config`: write, check and show the configuration."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from orchestrator.cli.options import DEFAULT_CONFIG, AsJson, ConfigPath, load
from orchestrator.cli.output import print_json, print_line, print_table
from orchestrator.config import EXAMPLE, Config, describe
from orchestrator.errors import ConfigError, UserError

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", add_completion=False)


@app.callback()
def config_group() -> None:
    """The configuration: which broker, which store, which applications, and who gets what in them.

    Example: `jml config init`, edit jml.toml, then `jml config check`
    """


@app.command()
def init(
    config: ConfigPath = DEFAULT_CONFIG,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
) -> None:
    """Write a configuration to begin with: Kafka and PostgreSQL on this machine, one application.

    Example: `jml config init --config /etc/jml/jml.toml`
    """
    try:
        config.parent.mkdir(parents=True, exist_ok=True)
        with config.open("w" if force else "x") as file:
            file.write(EXAMPLE)
    except FileExistsError:
        raise UserError(f"{config} is there already; --force overwrites it") from None
    except OSError as error:
        raise UserError(f"{config} cannot be written: {error.strerror}") from None
    print_line(f"wrote {config}; change it, then run `jml config check`")


@app.command()
def check(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Check the file, its expressions and its references; says all problems at once, each with its place.

    It calls neither broker, store nor applications. Tokens are looked up, and never shown.

    Example: `jml config check --config staging.toml`
    """
    loaded = load(config)
    if problems := [f"{config}: {problem}" for problem in _missing_tokens(loaded)]:
        raise ConfigError(problems)
    digest = loaded.policy().digest
    if as_json:
        print_json({"config": str(config), "apps": sorted(loaded.apps), "policy": digest})
    else:
        apps = ", ".join(sorted(loaded.apps)) or "none"
        print_line(f"{config} is good: applications {apps}; policy {digest}")


@app.command()
def show(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """The configuration in force: the file, the environment (JML_...) over it, and the defaults. Without credentials.

    Example: `JML_KAFKA__BOOTSTRAP=kafka:9092 jml config show`
    """
    shown = describe(load(config))
    if as_json:
        print_json(shown)
    else:
        print_table(f"Configuration of {config}", ("key", "value"), _flat(shown))


def _missing_tokens(loaded: Config) -> Iterator[str]:
    for name, application in loaded.apps.items():
        yield from application.auth.problems(name)


def _flat(values: dict[str, Any], above: str = "") -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        key = f"{above}.{name}" if above else name
        if isinstance(value, dict) and value:
            yield from _flat(value, key)
        else:
            yield key, value
