"""Keeps the audit's topics from being deleted, emptied or shortened, on a broker where nobody logs in.

Such a broker knows everybody as one principal, so it cannot tell an administrator from a worker: what is denied is
denied to all, the change of these rules included. Whoever can restart the broker with `super.users` can take them back.
"""

import asyncio
from concurrent.futures import Future

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # it names what it exports nowhere
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from orchestrator.adapters.kafka.reaching import reach, silent
from orchestrator.errors import UserError
from schemas.topics import AUDIT_CHECKPOINTS, AUDIT_ENTRIES

TIMEOUT_SECONDS = 30.0
GRACE_SECONDS = 5.0
"""So much later than the request's own time runs out: librdkafka then says why."""
CLUSTER = "kafka-cluster"
_TOPICS = (AclOperation.DELETE, AclOperation.ALTER, AclOperation.ALTER_CONFIGS)
_CLUSTER = (AclOperation.DELETE, AclOperation.ALTER, AclOperation.ALTER_CONFIGS)
"""Who may delete in the cluster may delete every topic, whatever the topic's own rules say. Rules are its ALTER."""


async def guard_topics(bootstrap: str) -> bool:
    """Deny it to everybody; False where that was done before. Raises Unreachable, UserError."""
    await reach(bootstrap, to_administer=True)
    return await asyncio.to_thread(_guard, bootstrap)


def _guard(bootstrap: str) -> bool:
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    rules = [
        *(rule for name in (AUDIT_ENTRIES, AUDIT_CHECKPOINTS) for rule in _rules(ResourceType.TOPIC, name, _TOPICS)),
        *_rules(ResourceType.BROKER, CLUSTER, _CLUSTER),
    ]
    made: dict[AclBinding, Future[None]] = admin.create_acls(rules, request_timeout=TIMEOUT_SECONDS)
    try:
        for future in made.values():
            future.result(TIMEOUT_SECONDS + GRACE_SECONDS)
    except TimeoutError:
        raise silent(bootstrap, f"no answer within {TIMEOUT_SECONDS:g} s") from None
    except KafkaException as error:
        code = error.args[0].code()
        if code == KafkaError.CLUSTER_AUTHORIZATION_FAILED:
            return False
        if code == KafkaError.SECURITY_DISABLED:
            raise UserError(
                f"Kafka at {bootstrap} has no authorizer: set authorizer.class.name, as docker-compose.yml does"
            ) from None
        raise silent(bootstrap, error.args[0].str()) from None
    return True


def _rules(kind: ResourceType, name: str, denied: tuple[AclOperation, ...]) -> list[AclBinding]:
    """Everything is allowed to everybody but what is denied, which goes first."""
    verdicts = [(AclOperation.ALL, AclPermissionType.ALLOW), *((one, AclPermissionType.DENY) for one in denied)]
    return [
        AclBinding(kind, name, ResourcePatternType.LITERAL, "User:*", "*", operation, permission)
        for operation, permission in verdicts
    ]
