"""Consumer groups: who reads which topics. Brokers need not be able to list groups, so here they are named."""

from schemas.topics import AUDIT_ENTRIES, HR_EVENTS, IDP_EVENTS, LANES, LIFECYCLE_NOTICES, LIFECYCLE_TIMERS, lane_topic

RESOLVER = "jml.resolver"
AUDITOR = "jml.auditor"
NOTIFIER = "jml.notifier"
_CONNECTOR = "jml.connector."


def connector_group(app: str) -> str:
    """The group of one application's connector: its own, so that a slow application delays only itself."""
    return f"{_CONNECTOR}{app}"


def group_topics(group: str) -> tuple[str, ...]:
    """The topics that a group reads."""
    if group == RESOLVER:
        return HR_EVENTS, IDP_EVENTS, LIFECYCLE_TIMERS
    if group == AUDITOR:
        return (AUDIT_ENTRIES,)
    if group == NOTIFIER:
        return (LIFECYCLE_NOTICES,)
    if group.startswith(_CONNECTOR):
        app = group.removeprefix(_CONNECTOR)
        return tuple(lane_topic(app, lane) for lane in LANES)
    raise ValueError(f"{group!r} is no consumer group of ours")


def groups(apps: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Every group with its topics, for the connected applications `apps`."""
    names = (RESOLVER, *(connector_group(app) for app in apps), AUDITOR, NOTIFIER)
    return {name: group_topics(name) for name in names}
