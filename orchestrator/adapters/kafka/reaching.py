"""Whether a broker is there, and what a failed request means to an operator."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from orchestrator.errors import Unreachable, UserError

TIMEOUT_SECONDS = 30.0
WHAT_TO_DO = "start it, or correct [kafka] bootstrap in the configuration"


async def reach(bootstrap: str, *, to_administer: bool = False) -> None:
    """Ask the broker whether it is there, before anything begins that would have to be ended again; `to_administer`
    also whether its topics and their rules can be changed, which the embedded one does not do.

    Raises Unreachable, or UserError with the broker's reason.
    """
    client = AIOKafkaClient(bootstrap_servers=bootstrap, request_timeout_ms=int(TIMEOUT_SECONDS * 1000))
    try:
        with _said_once():
            await client.bootstrap()
            if to_administer:
                await client.force_metadata_update()  # the first answer of all does not name the controller
    except (KafkaError, OSError, TimeoutError) as error:
        raise explained(bootstrap, error) from error
    else:
        if to_administer and client.cluster.controller is None:
            raise UserError(
                f"Kafka at {bootstrap} has no controller to ask for this: the embedded broker of `jml up` never has "
                "one and makes its topics by itself; set [kafka] bootstrap to another broker, or wait until the one "
                "there has elected its controller"
            )
    finally:
        await client.close()


def explained(bootstrap: str, error: Exception) -> UserError:
    """What a failed request means to an operator: nobody there, or somebody who says no."""
    if isinstance(error, KafkaError) and not error.retriable:
        return UserError(f"Kafka at {bootstrap} refuses: {error}")
    return silent(bootstrap, type(error).__name__)


def silent(bootstrap: str, why: str) -> Unreachable:
    """Nobody answers at the broker's address."""
    return Unreachable(f"Kafka at {bootstrap} does not answer ({why}): {WHAT_TO_DO}")


@contextmanager
def _said_once() -> Iterator[None]:
    """aiokafka logs as an error what it also raises, in a process that logs errors."""
    log = logging.getLogger("aiokafka")
    log.addFilter(_nothing)
    try:
        yield
    finally:
        log.removeFilter(_nothing)


def _nothing(_: logging.LogRecord) -> bool:
    return False
