"""One log format for every process: structlog over the standard library's logging."""

import logging
import re
from collections.abc import MutableMapping
from typing import Any

import structlog

# A link for a new password works until it is used: whoever reads logs must not be the one.
_RESET_KEY = re.compile(r"(password/reset/key/)[^/\s'\"]+")
# An address up to its query; what follows is what people searched for, or what a link fills in for them.
_QUERY = re.compile(r"(/[^\s?'\"]*)\?\S+")


def without_reset_keys(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Take the keys of password-reset links out of whatever is logged."""
    for name, value in event.items():
        if isinstance(value, str) and "password/reset/key/" in value:
            event[name] = _RESET_KEY.sub(r"\1…", value)
    return event


def without_queries(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Take what follows the question mark out of every address that is logged."""
    for name, value in event.items():
        if isinstance(value, str) and "?" in value:
            event[name] = _QUERY.sub(r"\1?…", value)
    return event


def config(*, level: str, as_json: bool) -> dict[str, Any]:
    """A `logging` dictionary; JSON lines, or for people when `as_json` is false."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        # What the level leaves out costs nothing.
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping().get(level, logging.NOTSET)),
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    # Never render local variables: a frame of the mint holds what nobody may read.
    traceback = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))
    renderer: list[Any] = (
        [traceback, structlog.processors.JSONRenderer()]
        if as_json
        else [structlog.processors.format_exc_info, structlog.dev.ConsoleRenderer(colors=False)]
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "structlog": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": shared,
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    without_reset_keys,
                    without_queries,
                    *renderer,
                ],
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "structlog"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            # Whatever these may put into a debug line (headers, bodies) stays unsaid.
            **{
                name: {"level": "WARNING"}
                for name in ("boto3", "botocore", "urllib3", "httpx", "httpcore", "kombu", "amqp")
            },
            # One line for each nudge says nothing; a task that fails still says so.
            "django_structlog.celery": {"level": "WARNING"},
            "celery.worker.strategy": {"level": "WARNING"},
            "celery.app.trace": {"level": "WARNING"},
            "django": {"handlers": [], "propagate": True},
            "django.server": {"handlers": [], "propagate": True},
        },
    }
