"""The Celery application: queues, routes, and the whole beat schedule."""

import os

from celery import Celery
from celery.signals import task_prerun
from django.db import close_old_connections
from kombu.entity import Queue

from portal import broker

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

broker.use()
app = Celery("daypass")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["requests_app.background"], related_name="tasks")

# Celery would open a connection anew for every task; Django knows itself when one is old or broken.
app.conf["CELERY_DB_REUSE_MAX"] = 10**9


@task_prerun.connect
def check_connections(**_: object) -> None:
    close_old_connections()


# A worker whom nobody wakes looks by itself.
app.steps["worker"].add("requests_app.background.unwoken:LooksByItself")

# A task's name starts with its queue: mint.…, aws.…, revoke.…, default.…
app.conf.task_queues = [Queue(name) for name in broker.QUEUES]  # type: ignore[no-untyped-call]
app.conf.task_routes = {f"{name}.*": {"queue": name} for name in broker.QUEUES}

# Each entry only wakes a sweep; what is due stands in the database. An old wake is worth nothing, hence `expires`; but
# that goes by the worker's clock, which may be minutes ahead of beat's.
app.conf.beat_schedule = {
    name: {"task": name, "schedule": seconds, "options": {"expires": 600}}
    for name, seconds in {
        "default.sweep_requests": 5.0,
        "default.find_stuck": 60.0,
        "default.sweep_outbox": 5.0,
        "default.sweep_deliveries": 5.0,
        "default.sweep_revocations": 2.0,
        "default.sweep_preflights": 2.0,
        "default.make_preflights": 60.0,
        "aws.read_clock": 20.0,
        "revoke.identify": 120.0,
    }.items()
}
