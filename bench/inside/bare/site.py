"""A page with nothing on it, and a view that writes the rows of a verb and does nothing else."""

import json
import os
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
from celery import current_app
from django.apps import apps
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils import timezone

import portal.celery  # the application that a nudge means
from bench.inside.bare import replay

assert portal.celery


def empty(request: HttpRequest) -> HttpResponse:
    """For someone who is signed in: the middleware sees to that."""
    return HttpResponse("<!doctype html><title>Nothing</title>")


def act(request: HttpRequest, name: str) -> HttpResponse:
    """The rows that the product wrote for this act, once more, in one transaction; and the nudge for mail."""
    recorded = _recorded(name, Path(os.environ["FLOOR_ROWS"]).stat().st_mtime_ns)
    given = {key: value for key, value in request.POST.items() if isinstance(value, str)}
    connection.ensure_connection()
    raw = connection.connection
    raw.prepare_threshold = 0
    with transaction.atomic(), psycopg.Cursor(raw) as cursor:
        replay.run(cursor, recorded, given)
        transaction.on_commit(lambda: current_app.send_task("default.sweep_outbox", expires=600, retry=False))
    return HttpResponse(status=303, headers={"Location": "/"})


def act_by_orm(request: HttpRequest, name: str) -> HttpResponse:
    """The same rows by Django's own ORM, as anybody would write such a view: for comparison, and not the floor."""
    recorded = _recorded(name, Path(os.environ["FLOOR_ROWS"]).stat().st_mtime_ns)
    tokens = replay.fresh(recorded) | {key: str(value) for key, value in request.POST.items()}
    models = _models()
    with transaction.atomic():
        if recorded["lock"]:
            models[recorded["lock"]].objects.select_for_update(no_key=True).get(pk=int(tokens["id"]))
        now = timezone.now()
        for row in recorded["rows"]:
            model = models[row["table"]]
            values = {
                name: _typed(model, name, source, tokens, now)
                for name, _, source in row["columns"]
                if name not in BY_TRIGGER
            }
            if row["what"] == "insert":
                tokens[row["token"]] = str(model.objects.create(**values).pk)
            else:
                model.objects.filter(pk=int(replay.filled(row["where"], tokens))).update(**values)
        transaction.on_commit(lambda: current_app.send_task("default.sweep_outbox", expires=600, retry=False))
    return HttpResponse(status=303, headers={"Location": "/"})


# Triggers write these, whatever is sent.
BY_TRIGGER = ("recorded_at", "transaction_id")


@cache
def _models() -> dict[str, Any]:
    return {model._meta.db_table: model for model in apps.get_models()}


def _typed(model: Any, name: str, source: Any, tokens: dict[str, str], now: datetime) -> Any:
    value = replay.value(source, tokens, now)
    if not isinstance(value, str):
        return value
    field = next(one for one in model._meta.concrete_fields if one.column == name)
    kind = field.get_internal_type()
    if kind == "JSONField":
        return json.loads(value)
    if kind == "ArrayField":
        return [field.base_field.to_python(one) for one in value.strip("{}").split(",") if one]
    if kind == "GenericIPAddressField":
        return value.partition("/")[0]
    if kind == "BooleanField":
        return value == "true"
    return (field.target_field if field.is_relation else field).to_python(value)


@cache
def _recorded(name: str, _changed: int) -> dict[str, Any]:
    return dict(json.loads(Path(os.environ["FLOOR_ROWS"]).read_text())[name])


urlpatterns = [path("", empty), path("act/<slug:name>", act), path("act-by-orm/<slug:name>", act_by_orm)]
