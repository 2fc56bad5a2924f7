"""`jml apps test`: an application before its first account."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

import typer

from orchestrator.cli import services
from orchestrator.cli.options import DEFAULT_CONFIG, AsJson, ConfigPath, load, run_async
from orchestrator.cli.output import print_json, print_line, print_table
from orchestrator.config import AppConfig
from orchestrator.errors import UserError
from orchestrator.flows.application import Application
from orchestrator.flows.examine import Examined

_MEANS = {
    "unknown": "is not in the application's schema: it will be refused or dropped in silence",
    "read-only": "cannot be written: it will be refused or dropped in silence",
    "required": "is required by the application and mapped by nobody",
}


def test(
    name: Annotated[str, typer.Argument(metavar="APP", help="The application, as the configuration calls it.")],
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Try an application before its first account: its credentials, what it can do, and whether the mapping fits.

    It reads and changes nothing. Exit code 1 says that the mapping does not fit, 2 that the application cannot be used.

    Example: `jml apps test crm --config staging.toml`
    """
    loaded = load(config)
    if name not in loaded.apps:
        known = ", ".join(sorted(loaded.apps)) or "none"
        raise UserError(f"{config} knows no application {name!r}; it knows {known}")
    settings = loaded.apps[name]
    examined, application = run_async(services.examine_application(name, settings))
    told = _told(name, settings, application, examined)
    if as_json:
        print_json(told)
    else:
        _print(told)
    if examined.troubles:
        raise typer.Exit(1)


def _told(name: str, settings: AppConfig, application: Application, examined: Examined) -> dict[str, Any]:
    dialect = application.dialect
    return {
        "app": name,
        "base_url": str(settings.base_url),
        "auth": settings.auth.type,
        "dialect": dialect.name,
        "protocol": dialect.version,
        "users": examined.users,
        "answered": list(examined.answered),
        "capabilities": asdict(application.capabilities),
        "bulk": settings.bulk,
        "limits": [limit._asdict() for limit in dialect.limits],
        "note": dialect.note,
        "attributes": None
        if examined.troubles is None
        else [{"attribute": attribute, "trouble": trouble} for attribute, trouble in examined.troubles],
    }


def _print(told: Mapping[str, Any]) -> None:
    rows = [
        ("credentials", f"accepted ({told['auth']})"),
        ("dialect", f"{told['dialect']}, SCIM {told['protocol']}"),
        ("users", "unknown" if told["users"] is None else str(told["users"])),
        ("discovery", ", ".join(told["answered"]) or "nothing answered; the dialect's defaults hold"),
        *((name, _shown(value)) for name, value in told["capabilities"].items()),
    ]
    print_table(f"{told['app']} at {told['base_url']}", ("what", "found"), rows)
    if told["bulk"] and not told["capabilities"]["bulk"]:
        print_line("bulk is configured and the application does not say that it has Bulk: calls go one by one")
    if told["note"]:
        print_line(f"note: {told['note']}")
    if told["attributes"] is None:
        print_line("the application shows no schema: whether the mapping fits is not known before the first account")
        return
    for one in told["attributes"]:
        print_line(f"{one['attribute']} {_MEANS[one['trouble']]}")
    if not told["attributes"]:
        print_line("the mapping fits the application's schema")


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {True: "yes", False: "no", None: "unknown"}[value]
    return str(value)
