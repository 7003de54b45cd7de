"""``onibus status`` and the flow page: groups that have ended are not late; a dead address is named."""

from __future__ import annotations

import re
import time

import pytest

from onibus.consumers.status import GroupStatus, system_status
from onibus.infra.kafka.reachability import UnreachableError, refuse_dead_servers
from onibus.infra.settings import Settings, load_settings
from onibus.learner.web.system import SystemView, flow_json
from tests.consumers.annotating import GROUP, annotator, publish, wait_for_labels
from tests.consumers.replay.running import onibus, refusal
from tests.ports import free_port

TEXTS = [f"You see here {n} arrows." for n in range(2, 9)]


def test_a_group_that_has_ended_is_stopped_and_not_behind(settings: Settings) -> None:
    publish(settings, TEXTS[:3])
    with annotator(settings):
        wait_for_labels(settings, 3)
        lines = onibus(settings, "status")
        (row,) = re.findall(rf"{re.escape(settings.topic_prefix + GROUP)}.*", lines)
        assert re.fullmatch(r".* Stable +│ 1 +│ 0 +│ – +│", row), "nothing is behind, so nothing most"
        assert "stopped" not in lines
    publish(settings, TEXTS[3:])
    lines = onibus(settings, "status")
    (row,) = re.findall(rf"{re.escape(settings.topic_prefix + GROUP)}.*", lines)
    assert re.fullmatch(r".* stopped +│ 0 +│ – +│ – +│", row)
    assert "stopped: the group has no members; when one starts, it goes on where they ended" in lines
    (group,) = system_status(settings).groups
    assert group.is_stopped
    assert (group.behind, sum(group.lag.values())) == (0, 4)
    (shown,) = flow_json(SystemView(groups=[group]))["groups"]
    assert (shown["is_stopped"], shown["behind"]) == (True, 0)


def test_a_group_with_members_is_behind_by_all_its_partitions() -> None:
    group = GroupStatus("annotators", "Stable", 2, {0: 3, 1: 5})
    assert not group.is_stopped
    assert group.behind == 8


def test_where_nothing_listens_status_says_so_at_once() -> None:
    gone = load_settings(bootstrap_servers=f"127.0.0.1:{free_port()},127.0.0.1:{free_port()}")
    began = time.monotonic()
    assert "no Kafka broker at 127.0.0.1:" in refusal(gone, "status")
    assert time.monotonic() - began < 3, "a client would try for six seconds"


def test_one_server_that_listens_is_enough(settings: Settings) -> None:
    gone = f"127.0.0.1:{free_port()}"
    for servers in ([gone, settings.bootstrap_servers], ["no-such-host.invalid:1"]):
        refuse_dead_servers(load_settings(bootstrap_servers=",".join(servers)))
    with pytest.raises(UnreachableError, match="Connection refused"):
        refuse_dead_servers(load_settings(bootstrap_servers=gone))
