"""`jml apps test`: an application before its first account."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.demo.servers import plain
from orchestrator.demo.servers.patching import CORE
from tests.integration.application import TOKEN, Application
from tests.unit.cli.console import Jml

CONFIG = """
[apps.crm]
base_url = "{base_url}"
allow_private = true
auth = {{ token_env = "CRM_TOKEN" }}
dialect = "{dialect}"

[apps.crm.attributes]
userName = "person.user_name"
externalId = "person.id"
title = "person.title"
"enterprise.costCenter" = "person.cost_center"
"""


@pytest.fixture
def application() -> Iterator[Application]:
    """The server `plain`, on a loop of its own: the command brings its own loop too."""
    application, up, down = Application(), threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with application.served():
            up.set()
            await down.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert up.wait(10)
    yield application
    loop.call_soon_threadsafe(down.set)
    thread.join(10)


@pytest.fixture
def config(folder: Path, application: Application, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CRM_TOKEN", TOKEN)
    (folder / "jml.toml").write_text(CONFIG.format(base_url=application.base_url, dialect="standard"))
    return folder / "jml.toml"


@pytest.mark.usefixtures("config")
def test_it_says_what_an_application_is_and_where_the_mapping_does_not_fit(
    jml: Jml, application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = CORE["User"]
    described = {**plain._DISCOVERY["Schemas"][core], "attributes": [{"name": "userName"}, {"name": "title"}]}
    monkeypatch.setitem(plain._DISCOVERY["Schemas"], core, described)
    answer = jml("apps", "test", "crm", "--json")
    assert answer.code == 1
    told = answer.json
    assert (told["dialect"], told["protocol"], told["users"]) == ("standard", "2.0", 0)
    assert told["answered"] == ["/ServiceProviderConfig", "/ResourceTypes", "/Schemas"]
    assert told["capabilities"]["patch"] is True
    assert told["attributes"] == [{"attribute": "enterprise.costCenter", "trouble": "unknown"}]
    shown = jml("apps", "test", "crm")
    assert "enterprise.costCenter is not in the application's schema" in " ".join(shown.out.split())
    assert TOKEN not in shown.out
    assert [call.method for call in application.calls if call.method != "GET"] == []


def test_bulk_that_an_application_does_not_have_is_told(jml: Jml, config: Path, application: Application) -> None:
    config.write_text(
        CONFIG.format(base_url=application.base_url, dialect="standard").replace("dialect", "bulk = true\ndialect")
    )
    assert "bulk is configured" not in jml("apps", "test", "crm").out
    application.plain.bulk = None
    answer = jml("apps", "test", "crm")
    assert "bulk is configured and the application does not say that it has Bulk" in " ".join(answer.out.split())
    assert jml("apps", "test", "crm", "--json").json["bulk"] is True


def test_an_application_without_a_schema_is_no_failure(jml: Jml, config: Path, application: Application) -> None:
    config.write_text(CONFIG.format(base_url=application.base_url, dialect="slack"))
    answer = jml("apps", "test", "crm")
    assert answer.code == 0
    assert "shows no schema" in " ".join(answer.out.split())


@pytest.mark.usefixtures("config", "application")
def test_an_application_that_cannot_be_used_is_said_in_one_line(
    jml: Jml, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jml("apps", "test", "wiki").refused("knows no application 'wiki'", "crm")
    config.write_text(CONFIG.format(base_url="http://127.0.0.1:9/scim/v2", dialect="standard"))
    jml("apps", "test", "crm").refused("127.0.0.1:9 cannot be reached: connection refused")
    config.write_text(config.read_text().replace("allow_private = true", ""))
    jml("apps", "test", "crm").refused("is at a private address", "allow_private")
    config.write_text(CONFIG.format(base_url="https://no-such-host.invalid/scim", dialect="standard"))
    jml("apps", "test", "crm").refused("no-such-host.invalid:443 cannot be reached", "(DNS)", "check base_url")
    monkeypatch.setenv("CRM_TOKEN", "two\nlines")
    jml("apps", "test", "crm").refused("auth.token_env", "a line break")
    monkeypatch.delenv("CRM_TOKEN")
    jml("apps", "test", "crm").refused("CRM_TOKEN is not set")


def test_blanks_around_a_token_are_no_part_of_it(
    jml: Jml, config: Path, application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRM_TOKEN", f"{TOKEN}\r\n")
    assert jml("apps", "test", "crm").code == 0
    assert {dict(call.headers)[b"authorization"] for call in application.calls} == {f"Bearer {TOKEN}".encode()}


@pytest.mark.usefixtures("application")
@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("base_url = ", 'base_url = "http://crm.example.com/scim"\n#', ("base_url is not https", "allow_private")),
        ("base_url = ", 'base_url = "https://u:hidden@crm.example.com/"\n#', ("holds credentials", "under auth")),
        ("person.title", "person.titel", ("person has no field 'titel'", "did you mean title?")),
        ("person.title", "person.zzz", ("person has no field 'zzz'", "the fields are cost_center", "person.custom")),
    ],
)
def test_a_configuration_that_cannot_be_meant_is_refused_at_once(
    jml: Jml, config: Path, old: str, new: str, words: tuple[str, ...]
) -> None:
    text = config.read_text().replace("allow_private = true", "")
    config.write_text(text.replace(old, new))
    refused = jml("config", "check")
    refused.refused(*words)
    assert "hidden" not in refused.err


def test_a_field_in_quotes_or_of_somebody_else_is_no_field_of_the_person(jml: Jml, config: Path) -> None:
    config.write_text(config.read_text().replace('"person.title"', "'\"person.nothing\" + person.custom.person.zzz'"))
    assert jml("config", "check").code == 0
