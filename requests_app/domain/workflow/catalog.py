"""Whether an entry of the catalog can still be corrected, and whether two would stand for one role at AWS.

The database decides the same by the same functions; here it is told to whoever types.
"""

from django.db import connection

from requests_app.domain.models import Account, Role
from requests_app.domain.prepared import Question

# By what `requests_app_…_depended_on` says.
_DEPENDS = {
    "request": "somebody has asked for {it}",
    "freeze": "{it} was frozen",
    "deny policy": "sessions of {it} were ended early",
    "own session": "AWS has given Daypass a session of {it}, to look at it",
}
_AT_WORK = {
    "request": "requests or passes for it are still open: end them first",
    "deny policy": "AWS still has to refuse sessions of it that were ended early: wait until that is over",
}


def depended_on(subject: Role | Account) -> str:
    """Why it can no longer be corrected which role or account at AWS this is, for the middle of a sentence; empty
    while it can.
    """
    is_role = isinstance(subject, Role)
    what = _ask("requests_app_role_depended_on" if is_role else "requests_app_account_depended_on", subject.pk)
    it = "it" if is_role or what == "freeze" else "a role in it"
    return _DEPENDS[what].format(it=it) if what else ""


def lock_address(role_id: int) -> str:
    """The role's ARN, which stays as it is until this transaction is over."""
    _LOCK.all(role=role_id)
    return Role.objects.select_related("account").get(pk=role_id).arn


_LOCK = Question(
    "catalog.lock_address", "SELECT o.id FROM requests_app_role o WHERE o.id = %(role)s::bigint FOR KEY SHARE"
)


def lock_to_correct(subject: Role | Account) -> None:
    """Nobody comes to depend on it before this transaction is over; whoever is about to is waited for.

    FOR UPDATE: a path is no key, so under a weaker lock a request could be made for the role meanwhile.
    """
    type(subject)._default_manager.select_for_update().values_list("pk").get(pk=subject.pk)
    if isinstance(subject, Account):
        list(Role.objects.select_for_update().filter(account=subject).order_by("pk").values_list("pk"))


def standing_for(role: Role) -> tuple[Role, str] | None:
    """The other row that stands for the role at AWS which this one, saved or not, would mean in use; and why it does.

    Names are unique in an account, whatever the path and the case, and a role's policies are written by its name.
    """
    alike = Role.objects.alike(role).exclude(pk=role.pk).select_related("account")
    others = list(alike.select_for_update(of=("self",)).order_by("pk"))
    in_use = next((other for other in others if other.is_active), None)
    if in_use:
        correct = "" if depended_on(in_use) else "correct that one, or "
        return in_use, f"it is in use: {correct}take it out of use first"
    for other in others:
        if what := _ask("requests_app_role_at_work", other.pk):
            return other, _AT_WORK[what]
    return None


def _ask(function: str, key: int) -> str | None:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {function}(%s)", [key])
        (what,) = cursor.fetchone()
    return what
