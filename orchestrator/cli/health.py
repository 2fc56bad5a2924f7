"""`jml health`: ask a running role whether it is well."""

from typing import Annotated

import httpx
import typer

from orchestrator.cli.options import DEFAULT_CONFIG, AsJson, ConfigPath, load
from orchestrator.cli.output import note, print_json, print_line
from orchestrator.config import Config
from orchestrator.errors import UserError

app = typer.Typer(rich_markup_mode="markdown", add_completion=False)

TIMEOUT_SECONDS = 5.0
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}  # noqa: S104 - where to ask, not where to listen


@app.command()
def health(
    url: Annotated[
        str | None, typer.Option("--url", help="Ask this address and not the one of [ops] in the configuration.")
    ] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Ask a running role whether it is ready. Exit code 0 when it says yes, 1 when it says no or does not answer.

    Meant for container health checks, hence it works without a configuration too: then it asks port 8080.

    Example: `jml health --url http://127.0.0.1:8081/health/ready`
    """
    asked = url or _url(load(config) if config.exists() or config != DEFAULT_CONFIG else Config())
    try:
        answer = httpx.get(asked, timeout=TIMEOUT_SECONDS, trust_env=False)
        ready, said = answer.is_success, f"{answer.status_code} {answer.text.strip()}".strip()
    except httpx.InvalidURL as error:
        raise UserError(f"--url {asked!r} is no address: {error}") from None
    except httpx.UnsupportedProtocol:
        raise UserError(f"--url {asked!r} is no address: it begins with neither http:// nor https://") from None
    except httpx.HTTPError as error:
        ready, said = False, f"does not answer ({type(error).__name__})"
    if as_json:
        print_json({"url": asked, "ready": ready, "answer": said})
    elif ready:
        print_line(f"{asked}: {said}")
    else:
        note(f"jml: {asked}: {said}")
    if not ready:
        raise typer.Exit(1)


def _url(config: Config) -> str:
    if config.ops.port == 0:
        raise UserError("[ops] port is 0, so each role took a free port: name it with --url")
    return f"http://{ANYWHERE.get(config.ops.host, config.ops.host)}:{config.ops.port}/health/ready"
