"""A Celery worker that does nothing, as it would be set up for any product: what a trip costs."""

import os

from celery import Celery

app = Celery("bare", broker=os.environ["FLOOR_BROKER"])
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    task_default_queue="bare",
    worker_prefetch_multiplier=1,
    worker_enable_remote_control=False,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)


@app.task(name="bare.nothing")
def nothing(_: int) -> None:
    pass
