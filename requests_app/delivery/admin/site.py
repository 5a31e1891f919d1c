"""The admin as a whole: what it is called, what is not in it, and its doors, which are everybody's."""

from typing import Any

# Their modules register what we take out again or replace, so they come first.
import allauth.account.admin
import allauth.mfa.admin
import allauth.usersessions.admin  # noqa: F401
import django.contrib.auth.admin  # noqa: F401
from allauth.account.adapter import get_adapter
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.contrib import admin
from django.contrib.auth.models import Group as AdminGroup
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from requests_app.domain import workflow


def log_out(request: HttpRequest, extra_context: object = None) -> HttpResponse:
    """By the same way as everywhere, which records it."""
    if request.method != "POST":
        return redirect("account_logout")
    get_adapter(request).logout(request)
    return redirect("account_login")


def change_password(request: HttpRequest, extra_context: object = None) -> HttpResponse:
    return redirect("account_change_password")


def on_every_page(request: HttpRequest) -> dict[str, Any]:
    """`only_operator` is asked for where the page says so."""
    return {**admin.AdminSite.each_context(admin.site, request), "only_operator": workflow.operators.the_only_one}


def list_of_apps(request: HttpRequest, app_label: str | None = None) -> list[dict[str, Any]]:
    """Daypass first; Django's own groups last and by a name that nobody takes for ours."""
    apps = admin.AdminSite.get_app_list(admin.site, request, app_label)
    for app in apps:
        if app["app_label"] == "auth":
            app["name"] = "Rights in the admin"
            for entry in app["models"]:
                entry["name"] = "Admin groups"
    return sorted(apps, key=lambda app: app["app_label"] == "auth")


for model in (EmailAddress, Authenticator, UserSession, AdminGroup):
    if admin.site.is_registered(model):
        admin.site.unregister(model)

admin.site.site_title = admin.site.site_header = "Daypass"
admin.site.index_title = "Catalog and rules"
admin.site.disable_action("delete_selected")
admin.site.get_app_list = list_of_apps  # type: ignore[method-assign]
admin.site.each_context = on_every_page  # type: ignore[method-assign]
admin.site.logout = log_out  # type: ignore[method-assign,assignment]
admin.site.password_change = change_password  # type: ignore[method-assign,assignment]
# What the pages register with: this module, and so the above, comes before them.
site = admin.site
