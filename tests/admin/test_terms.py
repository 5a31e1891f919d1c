"""Operators write terms in words, and what could not work is refused at its field."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.messages import get_messages
from django.core.exceptions import ValidationError
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from requests_app.delivery.admin.entitlements.in_words import sentences
from requests_app.delivery.admin.fields import Duration
from requests_app.delivery.admin.shown import length
from requests_app.domain import workflow
from requests_app.domain.models import (
    AccessRequest,
    AuditEvent,
    Decision,
    Entitlement,
    Extension,
    Group,
    Role,
    Stage,
    User,
)
from tests import factories
from tests.admin.filling import add_line, errors, read, save, send
from tests.admin.test_changing import new_entitlement
from tests.admin.test_reading import address
from tests.web.pages import Page, signed_in

YEAR = 365 * 86_400
UNITS = {
    "d": ("d", "day", "days", " d", " days"),
    "h": ("h", " h", " hours", "hr"),
    "m": ("m", "min", " minutes"),
    "s": ("s", " sec"),
}
SECONDS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}


@pytest.fixture
def operator(olivia: User) -> Client:
    return signed_in(olivia)


def warnings(response: Any) -> list[str]:
    return [str(one) for one in get_messages(response.wsgi_request) if one.level_tag == "warning"]


# --- lengths of time ----------------------------------------------------------------------------------


@given(st.integers(60, YEAR))
def test_what_is_shown_is_understood(seconds: int) -> None:
    field = Duration()
    shown = field.prepare_value(seconds)

    assert field.clean(shown) == seconds
    assert not field.has_changed(seconds, shown)
    assert field.clean(str(seconds)) == seconds


@given(st.lists(st.tuples(st.integers(0, 50), st.sampled_from("dhms"), st.data()), min_size=1, max_size=4))
def test_however_it_is_written_it_is_the_sum_of_its_parts(parts: list[tuple[int, str, Any]]) -> None:
    typed = " ".join(f"{number}{data.draw(st.sampled_from(UNITS[unit]))}" for number, unit, data in parts)
    meant = sum(number * SECONDS[unit] for number, unit, _ in parts)

    assert Duration(least=0).clean(typed) == meant
    assert Duration(least=0).clean(typed.upper()) == meant


@given(st.text(max_size=30))
def test_whatever_is_typed_is_a_length_in_bounds_or_refused(typed: str) -> None:
    try:
        understood = Duration().clean(typed)
    except ValidationError:
        return
    assert 60 <= understood <= YEAR


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("soon", "Write a length of time such as"),
        ("1h30", "Write a length of time such as"),
        ("1:30", "Write a length of time such as"),
        ("-5 min", "Write a length of time such as"),
        ("9" * 99, "Write a length of time such as"),
        ("0.0001 h", "Write a length of time such as"),
        ("0.001 h", "Write whole seconds"),
        ("59", "This is at least 1 min."),
        ("366 days", "This is at most 365 days."),
        ("", "This field is required."),
    ],
)
def test_what_is_no_length_is_said(typed: str, sentence: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Duration().clean(typed)
    assert sentence in refused.value.messages[0]


def test_nothing_typed_is_what_the_field_says() -> None:
    for nothing in (0, None):
        field = Duration(required=False, nothing=nothing)
        assert field.clean("") == nothing
        assert not field.prepare_value(nothing)
        assert not field.has_changed(nothing, "")
        assert field.has_changed(nothing, "1 h")


def test_lengths_read_as_people_say_them() -> None:
    assert [length(one) for one in (5400, 2700, 172_800, 129_600, 86_400, 3601, 0)] == [
        *("1 h 30 min", "45 min", "2 days", "1 day 12 h", "1 day", "1 h 1 s", "0 s"),
    ]


# --- saving ---------------------------------------------------------------------------------------------


def test_terms_are_written_in_words_and_come_back_so(
    operator: Client, administrator: Role, leads: Group, security: Group, bob: User, carol: User, dave: User
) -> None:
    fields = read(operator, address(Entitlement, page="add"))
    fields = add_line(fields, "entitlementrole_set", role=administrator.pk)
    fields = add_line(fields, "entitlementasker_set", group=security.pk)
    stage = {"position": 1, "quorum": 1, "groups": [leads.pk], "owners": "account"}
    stage |= {"escalate_seconds": "45 min", "more_groups": [security.pk], "more_users": [dave.pk]}
    fields = add_line(fields, "stages", **stage)
    typed = {
        "name": "New",
        "approval": "staged",
        "longest_seconds": "1 h 30 min",
        "default_seconds": "30 minutes",
        "pending_seconds": "2 days",
        "start_within_seconds": "28800",
        "schedule_ahead_seconds": "2 weeks",
        "hours_days": ["1", "3"],
        "hours_begin": "08:30",
        "hours_end": "18:00",
        "hours_zone": "Europe/Vienna",
        "extensions_most": "2",
        "extension_total_seconds": "4 h",
        "channels": "keys",
        "most_at_once": "3",
        "not_through_mcp": "on",
        "ends_by_sts_only": "on",
        "justification_pattern": ".*OPS-.*",
        "try_justification": "for OPS-7",
        "ticket": "required",
        "ticket_pattern": r"INC-\d+",
        "try_ticket": "INC-7",
    }
    assert send(operator, address(Entitlement, page="add"), fields, **typed).status_code == 302

    one = Entitlement.objects.get()
    assert (one.longest_seconds, one.default_seconds, one.pending_seconds) == (5400, 1800, 172_800)
    assert (one.start_within_seconds, one.schedule_ahead_seconds) == (28_800, 14 * 86_400)
    assert (one.extensions_most, one.extension_total_seconds) == (2, 14_400)
    assert (one.channels, one.most_at_once) == ("keys", 3)
    assert one.not_through_mcp
    assert one.ends_by_sts_only
    assert (one.justification_pattern, one.ticket_pattern) == (".*OPS-.*", r"INC-\d+")
    assert one.hours is not None
    assert one.hours.document() == {"zone": "Europe/Vienna", "days": [1, 3], "begin": "08:30", "end": "18:00"}
    assert list(one.askers.all()) == [security]
    made = one.stages.get()
    assert (made.owners, made.escalate_seconds) == ("account", 2700)
    assert (list(made.more_groups.all()), list(made.more_users.all())) == ([security], [dave])
    recorded = AuditEvent.objects.filter(action="entitlement.changed").latest("pk").detail["changes"]
    assert not {"try_ticket", "try_justification"} & recorded.keys()

    shown = read(operator, address(Entitlement, one.pk))
    assert shown["longest_seconds"] == ["1 h 30 min"]
    assert shown["schedule_ahead_seconds"] == ["14 days"]
    assert shown["stages-0-escalate_seconds"] == ["45 min"]
    assert save(operator, address(Entitlement, one.pk), try_ticket="INC-8").status_code == 302
    one.refresh_from_db()
    assert one.revision == 1


@pytest.mark.parametrize(
    ("field", "typed", "sentence"),
    [
        ("default_seconds", {"default_seconds": "2 h"}, "longer than the longest duration, 1 h"),
        ("longest_seconds", {"longest_seconds": "31 days"}, "at most 30 days"),
        ("pending_seconds", {"pending_seconds": "91 days"}, "at most 90 days"),
        ("start_within_seconds", {"start_within_seconds": "91 days"}, "at most 90 days"),
        ("session_ceiling_seconds", {"session_ceiling_seconds": "5 min"}, "at least 15 min"),
        ("schedule_ahead_seconds", {"schedule_ahead_seconds": "91 days"}, "at most 90 days"),
        ("extension_total_seconds", {"extensions_most": "1"}, "must be longer than the longest duration, 1 h"),
        (
            "extension_total_seconds",
            {"extensions_most": "1", "extension_total_seconds": "1 h"},
            "must be longer than the longest duration",
        ),
        ("hours_begin", {"hours_days": ["1"], "hours_end": "10:00"}, "Say from when"),
        ("hours_end", {"hours_days": ["1"], "hours_begin": "10:00"}, "Say to when"),
        ("hours_days", {"hours_begin": "10:00"}, "Tick the days"),
        ("hours_days", {"hours_days": ["8"]}, "not one of the available choices"),
        ("hours_begin", {"hours_days": ["1"], "hours_begin": "25:00", "hours_end": "10:00"}, "hours and minutes"),
        ("hours_zone", {"hours_zone": "Europe/Nowhere"}, "such as Europe/Vienna"),
        ("hours_zone", {"hours_zone": "../etc/passwd"}, "such as Europe/Vienna"),
        ("justification_pattern", {"justification_pattern": "("}, "not a regular expression"),
        ("ticket_pattern", {"ticket_pattern": r"(a)\1"}, "not a regular expression"),
        ("ticket_pattern", {"ticket": "none", "ticket_pattern": "x"}, "No ticket is asked for"),
        ("try_ticket", {"ticket_pattern": r"INC-\d+", "try_ticket": "see INC-7"}, "does not take this"),
        (
            "try_justification",
            {"justification_pattern": "OPS.*", "try_justification": "for OPS"},
            "does not take this",
        ),
        ("most_at_once", {"most_at_once": "0"}, "greater than or equal to 1"),
        ("narrowing_statements", {"narrowing_statements": '[{"Effect": "Allow", "Action": "*", "Resource": "*"}]'},
         "nothing is narrowed"),
        ("narrowing_statements", {"narrowing_statements": '[{"Effect": "Allow", "Action": "Get*", "Resource": "*"}]'},
         "Write the service first"),
        (
            "narrowing_statements",
            {"narrowing_statements": '[{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}, '
             '{"Effect": "Deny", "Action": ["*"], "Resource": ["*"]}]'},
            "denies everything",
        ),
    ],
)  # fmt: skip
def test_what_could_not_work_is_said_at_its_field(
    field: str, typed: dict[str, Any], sentence: str, operator: Client, administrator: Role
) -> None:
    response = new_entitlement(operator, approval="automatic", roles=(administrator,), **typed)

    assert response.status_code == 200
    assert sentence in " ".join(response.context["adminform"].form.errors[field])
    assert not Entitlement.objects.exists()


@pytest.mark.parametrize(
    "statements",
    [
        '[{"Effect": "Allow", "Action": "*", "Resource": "*"}, {"Effect": "Deny", "Action": "s3:*", "Resource": "*"}]',
        '[{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"Bool": {"aws:SecureTransport": "true"}}}]',
        '[{"Effect": "Allow", "NotAction": ["iam:*"], "Resource": "*"}]',
    ],
)
def test_narrowing_that_does_something_is_taken(statements: str, operator: Client, administrator: Role) -> None:
    made = new_entitlement(operator, approval="automatic", roles=(administrator,), narrowing_statements=statements)
    assert made.status_code == 302


@pytest.mark.parametrize(
    ("stage", "sentence"),
    [
        ({}, "or the owners"),
        ({"owners": "role", "escalate_seconds": "1 h"}, "Name at least one further group or person"),
        ({"owners": "role", "more_groups": "leads"}, "Say after how long"),
        ({"owners": "role", "escalate_seconds": "1 day", "more_groups": "leads"}, "decided within 1 day"),
        ({"owners": "role", "escalate_seconds": "5", "more_groups": "leads"}, "at least 1 min"),
        ({"users": "bob", "quorum": 2, "escalate_seconds": "1 h", "more_users": "bob"}, "2 must agree here"),
    ],
)
def test_a_stage_that_could_not_work_is_refused(
    stage: dict[str, Any], sentence: str, operator: Client, administrator: Role, leads: Group, bob: User
) -> None:
    keys = {"leads": leads.pk, "bob": bob.pk}
    typed = {
        name: [keys[value]] if isinstance(value, str) and value in keys else value for name, value in stage.items()
    }

    said = errors(new_entitlement(operator, approval="staged", roles=(administrator,), stages=(typed,)))

    assert sentence in said
    assert not Entitlement.objects.exists()


def test_owners_alone_are_asked_and_further_people_count(
    operator: Client, administrator: Role, leads: Group, bob: User, carol: User, dave: User
) -> None:
    stages = (
        {"owners": "role", "quorum": 5},
        {"users": [bob.pk], "quorum": 2, "escalate_seconds": "1 h", "more_users": [dave.pk]},
    )
    assert new_entitlement(operator, approval="staged", roles=(administrator,), stages=stages).status_code == 302
    assert Stage.objects.count() == 2


def test_what_is_possible_and_perhaps_not_meant_is_said_after_saving(
    operator: Client, administrator: Role, leads: Group
) -> None:
    long = factories.role("Long", longest_session_seconds=43_200, owners=leads)
    stages = ({"owners": "role"},)
    typed: dict[str, Any] = {
        "approval": "staged",
        "stages": stages,
        "session_ceiling_seconds": "2 h",
        "longest_seconds": "4 h",
    }

    first = warnings(new_entitlement(operator, name="One", roles=(administrator, long), **typed))
    assert len(first) == 2
    assert "2 h are more than IAM allows for Administrator in payments-prod." in first[0]
    assert "asks the role's owners alone, and there are none for Administrator in payments-prod." in first[1]
    assert warnings(new_entitlement(operator, name="Two", roles=(long,), **typed)) == []

    one = Entitlement.objects.get(name="Two")
    at = address(Entitlement, one.pk)
    saved = send(operator, at, add_line(read(operator, at), "selectors-2", role_name="admin*"))
    assert len(warnings(saved)) == 2  # what selectors give is looked at too


def test_narrowing_is_held_against_what_selectors_give(operator: Client, administrator: Role) -> None:
    one = factories.entitlement(narrowing_policy_arns=["arn:aws:iam::333333333333:policy/x"])
    at = address(Entitlement, one.pk)
    said = errors(send(operator, at, add_line(read(operator, at), "selectors-2", role_name="admin*")))
    assert "own account" in said
    one.narrowing_policy_arns = []
    one.save()
    one.selectors.create(role_name="admin*")
    fields = {"narrowing_policy_arns": "arn:aws:iam::333333333333:policy/x"}
    assert "own account" in errors(save(operator, at, **fields))


def test_the_role_pages_session_is_typed_in_words(operator: Client, administrator: Role) -> None:
    at = address(Role, administrator.pk)
    assert read(operator, at)["longest_session_seconds"] == ["1 h"]
    assert "at least 1 h" in errors(save(operator, at, longest_session_seconds="30 min"))
    assert save(operator, at, longest_session_seconds="2 h").status_code == 302
    administrator.refresh_from_db()
    assert administrator.longest_session_seconds == 7200


# --- in plain words ----------------------------------------------------------------------------------


def test_the_terms_are_said_as_those_who_ask_read_them(staged: Entitlement, security: Group) -> None:
    assert sentences(staged) == [
        "Up to 1\N{NO-BREAK SPACE}h, approval from Payments leads.",
        "Whatever nobody decides within 1 day lapses.",
        "The form offers 30 min first.",
        "An approved pass must be started within 8 h.",
        "A reason of at least 10 characters is needed.",
        "A ticket may be given.",
    ]
    Stage.objects.get().more_groups.add(security)
    Stage.objects.update(escalate_seconds=1800)
    staged.askers.add(security)
    Entitlement.objects.filter(pk=staged.pk).update(
        is_active=False, channels="keys", hours_days=[1, 2, 3, 4, 5], hours_begin="08:00", hours_end="18:00",
        extensions_most=2, extension_total_seconds=14_400, schedule_ahead_seconds=86_400, most_at_once=2,
        ticket="required", ticket_pattern="INC-.*", justification_pattern=".*OPS.*", lifted=["assume-role"],
        not_through_mcp=True, ends_by_sts_only=True,
    )  # fmt: skip
    said = sentences(Entitlement.objects.get(pk=staged.pk))
    text = " ".join(said).replace("\N{NO-BREAK SPACE}", " ")
    for sentence in (
        "Out of use: nobody may ask on these terms.",
        "keys only, Mon–Fri 08:00–18:00 UTC, may be extended, to 4 h in all.",
        "At stage 1, Security may decide too after 30 min without an agreement.",
        "A start may be scheduled up to 1 day ahead.",
        "A pass may be extended up to 2 times, to 4 h in all.",
        "that fits .*OPS.*.",
        "A ticket must be given; it must fit INC-.*.",
        "One person may have 2 of these open at once.",
        "AWS refuses what comes through its MCP server. That is all it catches",
        "Only where AWS itself ends the keys at the second: never by policy alone.",
        "Members of Security may ask for others whom it reaches.",
        "May assume further roles; those sessions can work",
    ):
        assert sentence in text


@pytest.mark.parametrize("who", ["olivia", "dave"])
def test_the_summary_stands_on_the_page_and_what_was_typed_stays_text(
    who: str, staged: Entitlement, leads: Group, request: pytest.FixtureRequest
) -> None:
    Group.objects.filter(pk=leads.pk).update(name="<b>Leads</b>")
    page = signed_in(request.getfixturevalue(who)).get(address(Entitlement, staged.pk)).content.decode()
    assert "approval from &lt;b&gt;Leads&lt;/b&gt;." in page
    assert Page(page).inline == []


# --- stages in another order ------------------------------------------------------------------------------


@pytest.fixture
def two_stages(staged: Entitlement, security: Group) -> Entitlement:
    """Payments leads first, then Security, where somebody who is no lead can decide."""
    factories.person("frank", security)
    Stage.objects.create(entitlement=staged, position=2).groups.add(security)
    return staged


def in_order(entitlement: Entitlement) -> list[tuple[int, str]]:
    return [(one.position, str(one.groups.get())) for one in entitlement.stages.all()]


def test_stages_change_places(operator: Client, two_stages: Entitlement) -> None:
    at = address(Entitlement, two_stages.pk)
    swapped = {"stages-0-position": "2", "stages-1-position": "1"}
    assert save(operator, at, **swapped).status_code == 302

    assert in_order(two_stages) == [(1, "Security"), (2, "Payments leads")]


def test_a_stage_comes_before_the_others_and_another_goes(operator: Client, two_stages: Entitlement) -> None:
    at = address(Entitlement, two_stages.pk)
    first = factories.group("Duty", factories.person("frieda"))
    moved = {"stages-0-position": "2", "stages-1-position": "3"}
    fields = add_line(read(operator, at), "stages", position=1, quorum=1, groups=[first.pk], owners="")
    assert send(operator, at, fields, **moved).status_code == 302
    assert in_order(two_stages) == [(1, "Duty"), (2, "Payments leads"), (3, "Security")]

    # The first one takes the place of one that goes.
    assert save(operator, at, **{"stages-0-position": "2", "stages-1-DELETE": "on"}).status_code == 302
    assert in_order(two_stages) == [(2, "Duty"), (3, "Security")]


def test_two_stages_at_one_position_are_said(operator: Client, two_stages: Entitlement) -> None:
    at = address(Entitlement, two_stages.pk)
    for position in ("2", "1001"):
        assert "position" in errors(save(operator, at, **{"stages-0-position": position}))
    assert in_order(two_stages) == [(1, "Payments leads"), (2, "Security")]


# --- more time on record --------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["dave", "olivia"])
def test_extensions_and_what_was_decided_on_them_are_on_record(
    who: str, staged: Entitlement, alice: User, bob: User, administrator: Role, request: pytest.FixtureRequest
) -> None:
    Entitlement.objects.filter(pk=staged.pk).update(extensions_most=1, extension_total_seconds=7200)
    asked = factories.wish(alice, administrator, Entitlement.objects.get(pk=staged.pk))
    workflow.approve(asked, by=bob)
    asked.refresh_from_db()
    active = workflow.start(asked, by=alice)
    more = workflow.extend(active, by=alice, duration=timedelta(minutes=30), justification="not done by then <b>")
    workflow.approve_extension(more, by=bob)
    client = signed_in(request.getfixturevalue(who))

    record = client.get(address(Extension, more.pk)).content.decode()
    assert "30 min" in record
    assert "&lt;b&gt;" in record
    listed = Page(client.get(address(Extension)).content.decode()).text
    assert active.code in listed
    assert "30 min Granted" in listed
    assert active.code not in Page(client.get(address(Extension) + "?state=pending").content.decode()).text
    assert active.code in Page(client.get(address(Extension) + f"?q={active.code}").content.decode()).text
    decision = Decision.objects.get(extension=more)
    link = f'<a href="{address(Extension, more.pk)}">30 min</a>'
    for at in (address(Decision), address(Decision, decision.pk), address(AccessRequest, active.pk)):
        assert link in client.get(at).content.decode()
    assert client.post(address(Extension, more.pk), {"state": "denied"}).status_code == 403
