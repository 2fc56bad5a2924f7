"""docker-compose.yml cannot be started in the tests, so what would only be noticed in production is checked here."""

import inspect
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
import yaml
from sqlalchemy import make_url

from orchestrator.adapters.kafka.consuming import Consumers
from orchestrator.config import Config, KafkaConfig, load_config
from orchestrator.demo.applications import APPLICATIONS
from orchestrator.demo.servers.asgi import BASE_PATH
from orchestrator.flows.account_queues import DRAIN_SECONDS
from orchestrator.flows.group_commit import Saver
from orchestrator.flows.outbox import OutboxPublisher
from orchestrator.roles import role_names
from tests.services.kafka import SETTINGS as KAFKA_SETTINGS

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]

ROLES = set(role_names())
"""A role that is not deployed does nothing."""

CONFIG = "/etc/jml/jml.toml"
SECRET_NAME = re.compile(r"password|secret|token|credential|private|api_?key", re.IGNORECASE)
URL_WITH_PASSWORD = re.compile(r"://[^/@\s:]+:[^/@\s]+@")

every_service = pytest.mark.parametrize("name", sorted(SERVICES))


def is_task(service: dict[str, Any]) -> bool:
    return bool(service.get("restart") == "no")


def own(service: dict[str, Any]) -> bool:
    """Whether it runs our image."""
    return "build" in service


def default(text: str) -> str:
    """What `${NAME:-default}` becomes when nobody sets the variable."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def seconds(duration: str) -> int:
    assert duration.endswith("s"), f"write durations in seconds here, not as {duration}"
    return int(duration[:-1])


def leaves(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Each scalar of a document, with the dotted path that leads to it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, path)
    else:
        yield path, str(value)


def test_it_is_a_valid_compose_file() -> None:
    schema = json.loads((ROOT / "tests/samples/compose-spec/schema.json").read_text())
    jsonschema.validate(COMPOSE, schema, cls=jsonschema.Draft202012Validator)


def test_each_role_is_deployed_and_nothing_else_is_run() -> None:
    run = {name: service["command"] for name, service in SERVICES.items() if service.get("command", [""])[0] == "run"}
    assert run == {role: ["run", role, "--config", CONFIG] for role in ROLES}


@every_service
def test_a_service_has_a_health_check_or_ends_by_itself(name: str) -> None:
    service = SERVICES[name]
    assert is_task(service) != ("healthcheck" in service)
    assert "restart" in service


def seconds_of(drain: Callable[..., Any]) -> float:
    """How long a drain waits unless it is told otherwise."""
    return float(inspect.signature(drain).parameters["seconds"].default)


async def test_a_worker_has_time_to_drain() -> None:
    """The longest way to a clean end: the calls, their saves, the consumers, the outbox, one after the other."""
    consumers: Any = Consumers("localhost:1", KafkaConfig()).broker.config
    longest = DRAIN_SECONDS + seconds_of(Saver.drain) + consumers.graceful_timeout + seconds_of(OutboxPublisher.drain)
    for role in ROLES:
        assert seconds(SERVICES[role]["stop_grace_period"]) > longest


def test_a_rebalance_waits_for_the_drain() -> None:
    assert KafkaConfig().rebalance_timeout_seconds > DRAIN_SECONDS


@pytest.mark.parametrize("role", sorted(ROLES))
def test_a_worker_waits_for_tables_and_topics(role: str) -> None:
    assert SERVICES[role]["depends_on"].keys() == {"kafka", "postgres", "migrate", "topics"}


@every_service
def test_what_a_service_waits_for_can_happen(name: str) -> None:
    for other, wish in SERVICES[name].get("depends_on", {}).items():
        expected = "service_completed_successfully" if is_task(SERVICES[other]) else "service_healthy"
        assert wish["condition"] == expected
        assert "profiles" not in SERVICES[other] or SERVICES[other]["profiles"] == SERVICES[name].get("profiles")


@every_service
def test_an_image_is_pinned(name: str) -> None:
    tag = default(SERVICES[name]["image"]).partition(":")[2]
    assert tag
    assert "latest" not in tag


def test_the_base_images_of_ours_are_pinned() -> None:
    bases = re.findall(r"^FROM (\S+)", (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE)
    assert bases
    assert all(re.search(r":\d", base) for base in bases)


def test_kafka_is_the_version_that_the_tests_run_against() -> None:
    pom = ElementTree.fromstring((ROOT / "tests/services/pom.xml").read_text())  # noqa: S314 - our own file
    version = pom.findtext("{*}properties/{*}kafka.version")
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{version}"


@every_service
def test_a_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert str(service["user"]).partition(":")[0] not in {"", "0", "root"}
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service.get("read_only") is (None if name == "kafka" else True)
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}
    assert "ports" not in service, "publishing a port is the operator's decision, in an override file"


def test_our_services_run_as_the_user_of_the_image() -> None:
    users = re.findall(r"^USER (\S+)", (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE)
    assert {service["user"] for service in SERVICES.values() if own(service)} == set(users)


@pytest.mark.parametrize("file", ["docker-compose.yml", "deploy/jml.toml", "deploy/Dockerfile"])
def test_no_url_carries_a_password(file: str) -> None:
    assert not URL_WITH_PASSWORD.search((ROOT / file).read_text())


def test_no_secret_stands_in_the_file() -> None:
    for name, service in SERVICES.items():
        for path, value in leaves(service.get("environment", {})):
            if SECRET_NAME.search(path):
                assert value.startswith("/run/secrets/"), f"{name}{path} is not a reference"


def test_secrets_are_files_that_git_ignores() -> None:
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    for secret in COMPOSE["secrets"].values():
        assert f"{Path(secret['file']).parent}/" in ignored


@every_service
def test_a_service_gets_each_secret_it_reads_and_the_demo_gets_none(name: str) -> None:
    service = SERVICES[name]
    given = set(service.get("secrets", []))
    assert given <= COMPOSE["secrets"].keys()
    assert not (given and "profiles" in service)
    read = {Path(value).name for _, value in leaves(service.get("environment", {})) if value.startswith("/run/secrets")}
    assert read <= given


def test_workers_log_in_as_a_role_that_owns_nothing_and_only_the_migration_as_the_owner() -> None:
    """Who owns a table can turn its triggers off; the audit index has to be safe from the workers themselves."""
    owner = SERVICES["postgres"]["environment"]["POSTGRES_USER"]
    worker = make_url(load_config(ROOT / "deploy/jml.toml").store.url).username
    made = (ROOT / "deploy/postgres-worker.sh").read_text()
    assert worker == "jml_worker" != owner
    assert f"CREATE ROLE {worker} LOGIN" in made
    assert "SUPERUSER" not in made
    assert make_url(SERVICES["migrate"]["environment"]["JML_STORE__URL"]).username == owner
    with_owner = {name for name, service in SERVICES.items() if "pgpass_owner" in service.get("secrets", [])}
    assert with_owner == {"migrate"}
    (script,) = SERVICES["postgres"]["configs"]
    assert COMPOSE["configs"][script["source"]]["file"] == "deploy/postgres-worker.sh"


def test_the_audit_s_topics_are_guarded_by_a_broker_that_has_an_authorizer() -> None:
    """tests/integration/test_topic_guard.py tries the same settings on a real broker."""
    environment = SERVICES["kafka"]["environment"]
    for name, value in (("authorizer.class.name", "StandardAuthorizer"), ("allow.everyone.if.no.acl.found", "true")):
        in_compose = environment[f"KAFKA_{name.upper().replace('.', '_')}"]
        assert in_compose.endswith(value)
        assert f"{name}={in_compose}\n" in KAFKA_SETTINGS
    assert SERVICES["guard"]["command"][:2] == ["topics", "guard"]
    assert SERVICES["guard"]["depends_on"].keys() == {"topics"}


def test_only_the_auditor_has_the_key_and_the_log() -> None:
    config = load_config(ROOT / "deploy/jml.toml")
    assert config.audit.key_file == Path("/run/secrets/audit_key")
    assert [name for name, service in SERVICES.items() if "audit_key" in service.get("secrets", [])] == ["auditor"]
    mounting = [
        name for name, one in SERVICES.items() if any("audit-log:" in volume for volume in one.get("volumes", []))
    ]
    assert mounting == ["auditor"]


def test_the_mounted_configuration_is_valid() -> None:
    name = default(COMPOSE["configs"]["jml_toml"]["file"])
    config = load_config(ROOT / name)
    broker, _, port = config.kafka.bootstrap.partition(":")
    assert broker in SERVICES
    assert SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"] == f"BROKER://{broker}:{port}"
    assert make_url(config.store.url).host in SERVICES
    assert any(volume.endswith(f":{config.audit.dir}") for volume in SERVICES["auditor"]["volumes"])


def test_data_lives_in_named_volumes() -> None:
    mounted = {volume.partition(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert mounted == COMPOSE["volumes"].keys()


def test_the_demo_applications_start_only_when_asked_for() -> None:
    demo = {name for name, service in SERVICES.items() if service.get("profiles") == ["demo"]}
    assert demo == {one.name for one in APPLICATIONS}
    assert all(SERVICES[name]["command"][:2] == ["demo-app", name] for name in demo)


def test_the_mounted_configuration_connects_the_demo_applications_as_the_demo_does() -> None:
    config = load_config(ROOT / "deploy/jml.toml")
    as_in_the_demo = Config.model_validate(
        {"apps": {one.name: {"base_url": "http://unused", **one.policy} for one in APPLICATIONS}}
    )
    assert config.policy().digest == as_in_the_demo.policy().digest
    for name, app in config.apps.items():
        port = SERVICES[name]["command"][-1]
        assert str(app.base_url) == f"http://{name}:{port}{BASE_PATH}"
        assert app.auth.token(name) is None
        assert "--token-env" not in SERVICES[name]["command"]
