"""Celery's door: names, queues, and that nothing in a message is believed."""

from typing import Any

import pytest

from portal.celery import app
from requests_app.background import mail, minting, tasks

QUEUES = {"mint", "aws", "revoke", "default"}


def test_each_task_is_named_after_its_queue_and_each_wake_is_a_task() -> None:
    app.loader.import_default_modules()
    ours = {name for name in app.tasks if not name.startswith("celery.")}
    assert ours >= {"mint.mint", "aws.read_clock", "default.sweep_requests", "default.sweep_outbox"}
    assert {name.split(".")[0] for name in ours} <= QUEUES
    assert {queue.name for queue in app.conf.task_queues} == QUEUES
    for entry in app.conf.beat_schedule.values():
        assert entry["task"] in ours
        # Old wakes go, so that an outage leaves few; not so soon that clocks minutes apart would let none through.
        assert 5 * 60 <= entry["options"]["expires"] <= 15 * 60
        assert app.amqp.router.route({}, entry["task"])["queue"].name == entry["task"].split(".")[0]


def test_only_json_and_no_remote_control() -> None:
    assert app.conf.accept_content == ["json"]
    assert app.conf.worker_enable_remote_control is False
    assert app.conf.result_backend in (None, "disabled://")


@pytest.mark.parametrize("argument", [True, "1", 0, -1, 2**63, 1.0, None, [1], {"id": 1}])
def test_only_a_plausible_id_is_looked_up(argument: object, monkeypatch: pytest.MonkeyPatch) -> None:
    minted: list[object] = []
    monkeypatch.setattr(minting, "mint", minted.append)
    tasks.mint(argument)
    assert minted == []
    tasks.mint(7)
    assert minted == [7]


def test_the_outbox_is_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[Any] = [mail.BATCH, mail.BATCH, 1]
    monkeypatch.setattr(mail, "send_due", lambda: left.pop(0))
    tasks.sweep_outbox()
    assert left == []
