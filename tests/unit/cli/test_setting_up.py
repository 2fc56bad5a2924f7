"""Configuration, database, health: the commands of the first day."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.unit.cli.console import Jml


def test_a_new_configuration_is_good_and_is_not_overwritten(
    jml: Jml, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "wrote jml.toml" in jml("config", "init").out
    jml("config", "check").refused("jml.toml: apps.directory.auth.token_env", "DIRECTORY_TOKEN is not set")
    monkeypatch.setenv("DIRECTORY_TOKEN", "hunter2")
    checked = jml("config", "check", "--json").json
    assert (checked["apps"], bool(checked["policy"])) == (["directory"], True)
    (folder / "jml.toml").write_text("[kafka]\n")
    jml("config", "init").refused("jml.toml is there already", "--force")
    assert jml("config", "init", "--force", "--config", "jml.toml").code == 0
    assert "[apps.directory]" in (folder / "jml.toml").read_text()


def test_a_scope_that_is_neither_true_nor_false_is_named_with_its_place(jml: Jml, folder: Path) -> None:
    (folder / "jml.toml").write_text(
        '[apps.crm]\nbase_url = "https://crm.example.com"\nscope = "person.department"\ngroups = "person.title"\n'
        '[apps.crm.attributes]\nuserName = \'days_between(person.start_date, person.end_date) > 3 ? "a" : "b"\'\n'
    )
    refused = jml("config", "check")
    scope, groups = refused.err.splitlines()
    assert refused.code == 2
    assert "jml.toml:3:10: apps.crm.scope: `person.department` gives text where true or false belongs" in scope
    assert "jml.toml:4:11: apps.crm.groups: `person.title` gives text where a list of names belongs" in groups


@pytest.mark.usefixtures("configured")
def test_the_configuration_is_shown_as_it_is_in_force_without_credentials(
    jml: Jml, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JML_STORE__URL", "postgresql+asyncpg://jml:hunter2@db/jml")
    assert jml("config", "show", "--json").json["store"] == {"url": "postgresql+asyncpg://***@db/jml"}
    answer = jml("config", "show")
    assert "apps.wiki.concurrency" in answer.out
    assert "hunter2" not in answer.out


def test_the_environment_names_the_configuration(jml: Jml, configured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configured.rename("elsewhere.toml")
    monkeypatch.setenv("JML_CONFIG", "elsewhere.toml")
    assert jml("config", "show", "--json").json["kafka"]["partitions"] == 6


@pytest.mark.usefixtures("configured")
def test_the_database_is_migrated_once(jml: Jml) -> None:
    assert jml("db", "migrate", "--json").json["migrations"]
    assert jml("db", "migrate", "--json").json["migrations"] == []
    assert jml("db", "check", "--json").json["migrated"] is True


class Answer(BaseHTTPRequestHandler):
    """Ready under /health/ready, not ready anywhere else."""

    def do_GET(self) -> None:
        ready = self.path == "/health/ready"
        self.send_response(200 if ready else 503)
        self.end_headers()
        self.wfile.write(b"ready" if ready else b"the store does not answer")

    def log_message(self, *_: object) -> None:
        """Not here."""


@pytest.fixture
def role() -> Iterator[str]:
    """The address of a role that is well."""
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_health_is_an_exit_code(jml: Jml, role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert jml("health", "--url", f"{role}/health/ready").code == 0
    sick = jml("health", "--url", f"{role}/other")
    assert (sick.code, sick.out) == (1, "")
    assert "503 the store does not answer" in sick.err
    monkeypatch.setenv("JML_OPS__PORT", role.rpartition(":")[2])
    assert jml("health", "--json").json["ready"] is True, "without a configuration file as well"
    monkeypatch.setenv("JML_OPS__PORT", "1")
    nobody = jml("health", "--json")
    assert (nobody.code, nobody.json["ready"]) == (1, False)
    monkeypatch.setenv("JML_OPS__PORT", "0")
    jml("health").refused("--url")


@pytest.mark.parametrize(
    ("command", "advice"),
    [
        (["up"], "[ops] port, or JML_OPS__PORT"),
        (["demo-app", "directory", "--port", "PORT"], "name another --port"),
        (
            ["audit", "witness", "--key-file", "w.key", "--log-key", "a.key.pub", "--state", "w", "--port", "PORT"],
            "name another --port",
        ),
    ],
)
def test_a_port_that_is_taken_is_named_with_what_to_do(
    jml: Jml, configured: Path, monkeypatch: pytest.MonkeyPatch, role: str, command: list[str], advice: str
) -> None:
    port = role.rpartition(":")[2]
    monkeypatch.setenv("JML_OPS__PORT", port)
    monkeypatch.setenv("JML_KAFKA__BOOTSTRAP", "embedded")
    assert jml("audit", "key", "generate", "a", "--output", "a.key").code == 0
    assert jml("audit", "key", "generate", "w", "--output", "w.key", "--witness").code == 0
    jml(*[one.replace("PORT", port) for one in command]).refused(f"cannot listen on 127.0.0.1:{port}: ", advice)
