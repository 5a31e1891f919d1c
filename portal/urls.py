"""Every address but those of the probes and the metrics, which a middleware answers."""

from allauth.account.decorators import secure_admin_login
from allauth.account.urls import urlpatterns as account_urls
from allauth.mfa.urls import urlpatterns as factor_urls
from django.contrib import admin
from django.urls import include, path

from requests_app.delivery.web import sign_ins
from requests_app.delivery.web.views import (
    access_request,
    approvals,
    credentials,
    decide,
    deliveries,
    emergency,
    endings,
    extensions,
    home,
    my_settings,
    my_sign_ins,
    password_links,
    request_access,
    second_factor,
)

# Operators keep people's addresses, so the pages on which people would change them are left out; and links to choose a
# password are ours.
_NOT_OURS = {
    "account_email",
    "account_email_verification_sent",
    "account_confirm_email",
    "account_reset_password_from_key",
    "account_reset_password_from_key_done",
}

# Whoever opens the admin signs in where everybody does.
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]

_acts = [
    path("approve", decide.approve, name="approve"),
    path("deny", decide.deny, name="deny"),
    path("accept", endings.accept, name="accept"),
    path("withdraw", endings.withdraw, name="withdraw"),
    path("start", endings.start, name="start"),
    path("give-back", endings.give_back, name="give_back"),
    path("revoke", endings.revoke, name="revoke"),
    path("remind", endings.remind, name="remind"),
    path("extend", extensions.extend, name="extend"),
    path("extensions/<uuid:public_id>/approve", extensions.approve, name="approve_more"),
    path("extensions/<uuid:public_id>/deny", extensions.deny, name="deny_more"),
    path("extensions/<uuid:public_id>/withdraw", extensions.withdraw, name="withdraw_more"),
    path("credentials", credentials.credentials, name="credentials"),
    path("console", credentials.console, name="console"),
]

_stopping = [
    path("", emergency.stop, name="stop"),
    path("person/<uuid:public_id>", emergency.stop_person, name="stop_person"),
    path("role/<uuid:public_id>", emergency.stop_role, name="stop_role"),
    path("account/<slug:partition>/<slug:number>", emergency.stop_account, name="stop_account"),
    path("everything", emergency.stop_everything, name="stop_everything"),
    path("freezes/<uuid:public_id>/lift", emergency.lift, name="lift"),
    path("freezes/<uuid:public_id>/passes", emergency.found, name="found_passes"),
]

urlpatterns = [
    path("", home.home, name="home"),
    path("request/", request_access.request_access, name="request_access"),
    path("request/roles", request_access.role_search, name="role_search"),
    path("request/people", request_access.person_search, name="person_search"),
    path("request/terms", request_access.role_terms, name="role_terms"),
    path("request/outlook", request_access.outlook, name="outlook"),
    path("requests/<slug:code>", access_request.access_request, name="access_request"),
    path("requests/<slug:code>/", include(_acts)),
    path("approvals/", approvals.approvals, name="approvals"),
    path("approvals/updates", approvals.updates, name="approvals_updates"),
    path("approvals/decide", approvals.decide_several, name="decide_several"),
    path("deliveries/", deliveries.ask, name="deliveries"),
    path("deliveries/<uuid:public_id>", deliveries.delivery, name="delivery"),
    path("deliveries/<uuid:public_id>/envelope", deliveries.envelope, name="envelope"),
    path("stop/", include(_stopping)),
    path("settings/", my_settings.my_settings, name="my_settings"),
    # Under this address the log leaves the key out.
    path("accounts/password/reset/key/<slug:key>/", password_links.open_link, name="password_link"),
    path("accounts/password/choose/", password_links.choose_password, name="choose_password"),
    path("accounts/", include([one for one in account_urls if getattr(one, "name", "") not in _NOT_OURS])),
    path("accounts/second-factor/", second_factor.second_factor, name="second_factor"),
    path("accounts/2fa/", include(sign_ins.keeping_this_one(factor_urls))),
    path("accounts/sessions/", my_sign_ins.my_sign_ins, name="usersessions_list"),
    path("admin/", admin.site.urls),
]
