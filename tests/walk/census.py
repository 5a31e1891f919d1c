"""Whether the landscapes have of every list none, one and several. What there is to count is read from the models."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.contrib.postgres.fields import ArrayField
from django.db import models

# What has no list on any page, or cannot be none, one or several: and why.
EXEMPT = {
    "all of requests_app.User": "whoever walks is there",
    "all of auth.Group": "migrations make the auditors",
    "auth.Permission.content_type": "Django makes them",
    "admin.LogEntry": "the admin's own log is not written: our record is",
    "account.EmailConfirmation": "operators keep people's addresses",
    "account.EmailAddress.user": "a person has one address",
    "usersessions.UserSession.data": "nothing of ours is in it",
}


def sizes() -> dict[str, set[str]]:
    """By the name of each list, which of none, one and many there is now."""
    found: dict[str, set[str]] = defaultdict(set)
    for model in apps.get_models(include_auto_created=True):
        rows = list(model._base_manager.values())
        if model in admin.site._registry:  # it has a page that lists them all
            found[f"all of {model._meta.label}"] |= {_size(len(rows))}
        for one in model._meta.fields:
            found_here = found.setdefault(f"{model._meta.label}.{one.name}", set()) if _is_list(one) else set()
            if isinstance(one, ArrayField | models.JSONField):
                found_here |= {_size(len(row[one.attname] or ())) for row in rows}
            elif isinstance(one, models.ForeignKey):
                number = dict.fromkeys(one.related_model._base_manager.values_list("pk", flat=True), 0)
                for row in rows:
                    if row[one.attname] is not None:
                        number[row[one.attname]] += 1
                found_here |= {_size(each) for each in number.values()}
    return found


def missing(sizes: dict[str, set[str]]) -> Iterator[str]:
    """A sentence for each list that is nowhere empty, nowhere one or nowhere several."""
    for name, seen in sorted(sizes.items()):
        lacking = [one for one in ("none", "one", "several") if one not in seen]
        if lacking and name not in EXEMPT and name.rpartition(".")[0] not in EXEMPT:
            yield (
                f"{name}: no landscape has {' and '.join(lacking)} of these. Add rows to tests/walk/landscapes.py, "
                "or say in EXEMPT of tests/walk/census.py why that cannot be."
            )


def _is_list(one: Any) -> bool:
    if isinstance(one, ArrayField | models.JSONField):
        return one.default in (list, dict)
    # A relation that has no name from the other side is listed nowhere.
    return isinstance(one, models.ForeignKey) and not one.unique and not one.remote_field.hidden


def _size(number: int) -> str:
    return "none" if number == 0 else "one" if number == 1 else "several"
