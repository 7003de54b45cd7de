"""``onibus topics create | check | list``: compares the topic table with a cluster."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from onibus.infra.cli.options import AsJson, with_settings
from onibus.infra.cli.tables import print_table
from onibus.infra.errors import OnibusError
from onibus.infra.process.terminal import echo
from onibus.infra.settings import Settings

if TYPE_CHECKING:
    from onibus.infra.kafka.topics import Topic


def register(app: typer.Typer) -> None:
    """Add the command group to ``app``."""
    group = typer.Typer(help="Create and check the topics on a cluster.", no_args_is_help=True)
    group.command()(with_settings(create))
    group.command()(with_settings(check))
    group.command("list")(with_settings(list_topics))
    app.add_typer(group, name="topics")


def create(settings: Settings, as_json: AsJson = False) -> None:
    """Create missing topics. A topic that exists with other settings is reported, never changed."""
    from onibus.infra.kafka.topic_admin import check_topics, create_topics
    from onibus.infra.kafka.topics import topic_table

    created = create_topics(settings)
    found = check_topics(settings)
    if as_json:
        echo(json.dumps({"created": created, "differences": found}, indent=2))
    else:
        for name in created:
            echo(f"created {name}")
        number = len(topic_table(settings))
        echo(
            f"{len(created)} of {number} topics created" if created else f"{number} topics, all there already"
        )
    _refuse(found, printed=as_json)


def check(settings: Settings, as_json: AsJson = False) -> None:
    """Report each difference between table and cluster, and groups with too many members."""
    from onibus.infra.kafka.topic_admin import check_topics, crowded_groups

    found, crowded = check_topics(settings), crowded_groups(settings)
    if as_json:
        echo(json.dumps({"differences": found, "warnings": crowded}, indent=2))
    else:
        for line in crowded:
            echo(f"warning: {line}", err=True)
        if not found:
            echo("every topic is as it should be")
    _refuse(found, printed=as_json)


def list_topics(settings: Settings, as_json: AsJson = False) -> None:
    """List every topic with its purpose, and whether the cluster has it as it should be."""
    from onibus.infra.kafka.topic_admin import describe_topics, differences
    from onibus.infra.kafka.topics import topic_table

    table = topic_table(settings)
    states = describe_topics(settings, table)
    found = {topic.name: differences(topic, states.get(topic.name)) for topic in table}
    if as_json:
        rows = [
            asdict(topic) | {"exists": topic.name in states, "differences": found[topic.name]}
            for topic in table
        ]
        echo(json.dumps(rows, indent=2))
        return
    shown = []
    for topic in table:
        state = "; ".join(found[topic.name]) or "as it should be"
        counts = (str(topic.partitions), str(topic.replication))
        shown.append((topic.name, *counts, _clean_up(topic), topic.purpose, state))
    print_table(("topic", "partitions", "copies", "clean-up", "purpose", "on the cluster"), shown)


def _clean_up(topic: Topic) -> str:
    from onibus.infra.kafka.topics import DAY_MS, FOREVER_MS

    policy, kept_ms = topic.config["cleanup.policy"], topic.config.get("retention.ms")
    if kept_ms is None:
        return policy
    return "none" if int(kept_ms) == FOREVER_MS else f"{policy} after {int(kept_ms) // DAY_MS} days"


def _refuse(found: list[str], *, printed: bool) -> None:
    """End with what to do, if there are differences; they are printed before, unless they were."""
    from onibus.infra.kafka.topic_admin import advice, by_difference

    if not found:
        return
    for line in by_difference(found) if not printed else ():
        echo(line)
    what_to_do = advice(found) or "do what the lines above say"
    raise OnibusError(f"the topics are not as they should be; {what_to_do}")
