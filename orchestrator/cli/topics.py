"""`jml topics`: create the topics on a Kafka broker."""

import typer

from orchestrator.cli import services
from orchestrator.cli.options import DEFAULT_CONFIG, AsJson, ConfigPath, load, run_async
from orchestrator.cli.output import duration, print_json, print_line, print_table
from orchestrator.domain.wording import counted

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", add_completion=False)


@app.callback()
def topics() -> None:
    """The topics on a Kafka broker, two of them for each application.

    Example: `jml topics create`
    """


@app.command()
def create(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Make the topics that are missing and add partitions where there are too few. Doing it twice changes nothing.

    Run it before the roles start, and again when an application is added. `[kafka] partitions` and `replication`
    say how many. Partitions are never taken away; adding some later moves keys, so stop the roles for it.

    Example: `jml topics create --config /etc/jml/jml.toml`
    """
    done = run_async(services.create_topics(load(config)))
    if as_json:
        print_json(done)
        return
    for name in done.created:
        print_line(f"created {name}")
    for name in done.grown:
        print_line(f"added partitions to {name}")
    print_line(f"{counted(len(done.unchanged), 'topic was as it', 'topics were as they')} should be")


@app.command()
def guard(config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Deny to everybody to delete, empty or shorten the audit's topics, on a broker of our own where nobody logs in.

    Only for a broker that serves nothing else and that only the roles reach, such as that of docker-compose.yml: all
    else is allowed there to everybody. On a broker with logins, give each role the rights that it needs instead. Only
    whoever restarts the broker with `super.users` can take it back. Doing it twice changes nothing.

    Example: `jml topics guard --config /etc/jml/jml.toml`
    """
    done = run_async(services.guard_topics(load(config)))
    print_line("the audit's topics are guarded" if done else "the audit's topics were guarded already")


@app.command("list")
def list_(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Every topic: what travels on it, and its partitions as they should be and as they are.

    Example: `jml topics list --json | jq '.topics[] | select(.present < .wanted)'`
    """
    found = run_async(services.list_topics(load(config)))
    if as_json:
        print_json(
            {
                "topics": [
                    {
                        "name": one.topic.name,
                        "about": one.topic.about,
                        "messages": [message.__name__ for message in one.topic.messages],
                        "wanted": one.wanted,
                        "present": one.present or 0,
                        "retention_ms": one.topic.retention_ms,
                    }
                    for one in found
                ]
            }
        )
        return
    print_table(
        "Topics",
        ("topic", "wanted#", "present#", "kept for", "what"),
        [
            (
                one.topic.name,
                one.wanted,
                one.present or "missing",
                duration(one.topic.retention_ms / 1000) if one.topic.retention_ms >= 0 else "ever",
                one.topic.about,
            )
            for one in found
        ],
    )
