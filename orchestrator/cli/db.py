"""`jml db`: create and migrate the database."""

import typer

from orchestrator.cli import services
from orchestrator.cli.options import DEFAULT_CONFIG, AsJson, ConfigPath, load, run_async
from orchestrator.cli.output import print_json, print_line
from orchestrator.config import Config

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", add_completion=False)


@app.callback()
def db() -> None:
    """The database: SQLite for one machine, PostgreSQL for production.

    Example: `jml db migrate`
    """


@app.command()
def migrate(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Bring the tables to this version; makes them in an empty database. Doing it twice changes nothing.

    Run it before the roles of a new version start.

    Example: `JML_STORE__URL=postgresql+asyncpg://jml@db/jml jml db migrate`
    """
    ran = run_async(_migrate(load(config)))
    if as_json:
        print_json({"migrations": ran})
    else:
        print_line(f"ran {', '.join(ran)}" if ran else "the database is at this version already")


@app.command()
def check(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Check that the database answers and has the tables of this version. Exit code 2 when not.

    Example: `jml db check && jml up`
    """
    where = run_async(_check(load(config)))
    if as_json:
        print_json({"database": where, "migrated": True})
    else:
        print_line(f"{where} is at this version")


async def _migrate(config: Config) -> list[str]:
    async with services.database(config) as database:
        return await services.migrate_database(database)


async def _check(config: Config) -> str:
    async with services.database(config) as database:
        await services.check_database(database)
        return database.where
