from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from requests_app.delivery.web.access import PersonRequest, signed_in
from requests_app.delivery.web.context import now_of
from requests_app.delivery.web.time_zones import TimeZone
from requests_app.domain import workflow


class SettingsForm(forms.Form):
    time_zone = TimeZone(
        label="Time zone",
        help_text="Times on pages and in mails to you are by these clocks. Terms keep the hours of their own zone, and "
        "the record is in UTC.",
    )


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in
def my_settings(request: PersonRequest) -> HttpResponse:
    """What people decide about themselves: their time zone. My access, which offers the browser's, posts here too."""
    typed = request.POST if request.method == "POST" else None
    form = SettingsForm(typed, initial={"time_zone": request.user.time_zone})
    if request.method == "POST" and form.is_valid():
        person = workflow.people.choose_time_zone(request.user, form.cleaned_data["time_zone"])
        messages.info(request, f"Times are shown in {person.time_zone}.")
        return redirect("home" if "from_home" in request.POST else "my_settings")
    return render(request, "my_settings.html", {"form": form, "now": now_of(request)})
