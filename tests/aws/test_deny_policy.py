"""Ending live sessions of a role: the document, and what the enforcing stand-in makes of it."""

import json
import time
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from botocore import exceptions as botocore
from hypothesis import given
from hypothesis import strategies as st

from requests_app.aws import deny_policy, iam
from requests_app.aws.deny_policy import (
    Draft,
    Entry,
    NoRoom,
    Seen,
    canonical,
    characters,
    document,
    fit,
    policy_name,
    probe_prefix,
)
from requests_app.aws.errors import Refused, Unavailable
from requests_app.domain import codes
from sandbox.landscape import ACCOUNTS, revoker_arn

from .conftest import PAYMENTS, Script, works

ALICE, BOB, CAROL = "DP-7K2M9QX4", "DP-7K2M9QX5", "DP-0000000C"
MOMENT = datetime(2026, 11, 22, 21, 0, 0, tzinfo=UTC)
HERE: dict[str, Any] = {"installation": "here", "generation": 7}


def parsed(text: str) -> Any:
    return json.loads(text)


def code(number: int) -> str:
    return f"DP-{number:08d}"


def filler(length: int) -> dict[str, Any]:
    """A statement that allows nothing anybody has, about so long."""
    return {"Effect": "Allow", "Action": "sqs:DeleteQueue", "Resource": f"arn:aws:sqs:::{'x' * length}"}


# --- what stands in it ---------------------------------------------------------------------------


def test_everything_is_denied_to_the_named_requests_and_to_the_probe():
    assert parsed(document(**HERE, entries=[Entry(BOB), Entry(ALICE)])) == {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Deny",
                "Action": "*",
                "Resource": "*",
                "Condition": {
                    "StringLike": {"aws:userid": [f"*:{ALICE}-*", f"*:{BOB}-*", "*:DP-PROBE-here-7-*"]},
                },
            }
        ],
    }


def test_with_nobody_to_deny_the_probe_still_is():
    (statement,) = parsed(document(**HERE, entries=[]))["Statement"]

    assert statement["Condition"] == {"StringLike": {"aws:userid": ["*:DP-PROBE-here-7-*"]}}


def test_the_same_wish_gives_the_same_text_without_a_blank():
    text = document(**HERE, entries=[Entry(BOB), Entry(ALICE), Entry(BOB, returned=True)])

    assert text == document(**HERE, entries=[Entry(ALICE), Entry(BOB)])
    assert len(text) == characters(text)


@pytest.mark.parametrize(
    "wrong", ["*", "DP-*", "DP-7K2M9QX", "DP-7K2M9QX4-*", "dp-7k2m9qx4", "DP-PROBE0OI", "", "DP-7K2M9QX4\n"]
)
def test_only_a_code_is_denied(wrong):
    with pytest.raises(ValueError, match="code"):
        document(**HERE, entries=[Entry(wrong)])


@pytest.mark.parametrize("wrong", ["", "a-b", "A", "a*", "x" * 25, "é", "a\n"])
def test_an_installation_has_a_plain_id(wrong):
    with pytest.raises(ValueError, match="installation"):
        policy_name(wrong)
    with pytest.raises(ValueError, match="installation"):
        document(installation=wrong, generation=1, entries=[])


def test_policies_of_two_installations_have_two_names():
    assert policy_name("here") == "daypass-here-ended"
    assert policy_name("here") != policy_name("there")


def test_no_persons_session_can_be_the_probe():
    """No code that was or will be given has an O in it."""
    assert not set("O") & set(codes.ALPHABET)
    assert not codes.CODE.match(probe_prefix("here", 7)[:11])


def test_no_generation_answers_for_another():
    assert not probe_prefix("here", 11).startswith(probe_prefix("here", 1))
    assert not probe_prefix("here1", 1).startswith(probe_prefix("here", 1))


@pytest.mark.parametrize(
    ("since", "written"),
    [
        (MOMENT, "2026-11-22T21:00:00Z"),
        (MOMENT + timedelta(microseconds=1), "2026-11-22T21:00:01Z"),
        (MOMENT.astimezone(timezone(timedelta(hours=1))), "2026-11-22T21:00:00Z"),
    ],
)
def test_the_fallback_denies_what_was_issued_before_up_to_its_second(since, written):
    _, fallback = parsed(document(**HERE, entries=[], since=since))["Statement"]

    assert fallback == {
        "Effect": "Deny",
        "Action": "*",
        "Resource": "*",
        "Condition": {"DateLessThan": {"aws:TokenIssueTime": written}},
    }


def test_a_naive_since_is_a_fault():
    with pytest.raises(ValueError, match="aware"):
        document(**HERE, entries=[], since=MOMENT.replace(tzinfo=None))


def test_canonical_sees_through_blanks_order_and_lists_of_one():
    text = document(**HERE, entries=[Entry(ALICE), Entry(BOB)], since=MOMENT)
    other = parsed(text)
    other["Statement"].reverse()
    other["Statement"][1]["Condition"]["StringLike"]["aws:userid"].reverse()
    other["Statement"][0]["Action"] = ["*"]

    assert canonical(json.dumps(other, indent=4)) == canonical(text)
    assert canonical(document(**HERE, entries=[Entry(ALICE)], since=MOMENT)) != canonical(text)
    assert canonical("not JSON") == "not JSON"


# --- who is left out when there is no room -------------------------------------------------------

EMPTY = characters(document(**HERE, entries=[]))
ENTRIES = st.lists(
    st.builds(
        Entry,
        st.integers(0, 99_999_999).map(code),
        st.booleans(),
        st.none() | st.sampled_from([MOMENT - timedelta(1), MOMENT + timedelta(1)]),
    ),
    unique_by=lambda entry: entry.code,
    max_size=40,
)


@given(ENTRIES, st.integers(-50, 1500), st.none() | st.just(MOMENT))
def test_as_many_are_kept_as_fit_and_nobody_is_forgotten(entries, room, since):
    fitting = fit(entries, room, **HERE, since=since)
    text = document(**HERE, entries=fitting.kept, since=since)

    assert sorted(fitting.kept + fitting.dropped, key=repr) == sorted(entries, key=repr)
    if fitting.kept:
        assert characters(text) <= room
    if fitting.dropped:
        one_more = document(**HERE, entries=[*fitting.kept, fitting.dropped[0]], since=since)
        assert characters(one_more) > room
    else:
        assert not fitting.fallback_needed


@given(ENTRIES, st.integers(-50, 1500), st.none() | st.just(MOMENT))
def test_a_revoked_pass_is_left_out_only_if_the_fallback_denies_it_or_is_asked_for(entries, room, since):
    fitting = fit(entries, room, **HERE, since=since)

    bare = [
        entry
        for entry in fitting.dropped
        if not entry.returned and not (since and entry.issued_before and entry.issued_before <= since)
    ]
    assert fitting.fallback_needed is bool(bare)
    if bare:
        assert not any(entry.returned for entry in fitting.kept)


def test_returned_passes_go_first():
    entries = [Entry(ALICE, returned=True), Entry(BOB), Entry(CAROL, returned=True)]

    fitting = fit(entries, EMPTY + 2 * 18, **HERE)

    assert {entry.code for entry in fitting.kept} == {BOB, ALICE}
    assert [entry.code for entry in fitting.dropped] == [CAROL]
    assert not fitting.fallback_needed


def test_what_the_fallback_denies_anyway_goes_before_anything_else():
    before, after = MOMENT - timedelta(seconds=1), MOMENT + timedelta(seconds=1)
    entries = [
        Entry(code(1), issued_before=before),
        Entry(code(2), returned=True, issued_before=after),
        Entry(code(3)),
    ]
    room = characters(document(**HERE, entries=[], since=MOMENT)) + 2 * 18

    fitting = fit(entries, room, **HERE, since=MOMENT)

    assert [entry.code for entry in fitting.dropped] == [code(1)]
    assert not fitting.fallback_needed


@pytest.mark.parametrize(("later", "is_covered"), [(-1, True), (0, True), (1, False)])
def test_the_fallback_covers_what_was_issued_up_to_its_own_moment(later, is_covered):
    """Of such an entry it is known that everything was issued before; and AWS denies what is older than the moment."""
    revoked = Entry(code(1), issued_before=MOMENT + timedelta(microseconds=later))

    fitting = fit([revoked], EMPTY, **HERE, since=MOMENT)

    assert list(fitting.dropped) == [revoked]
    assert fitting.fallback_needed is not is_covered


def test_five_hundred_fit_on_a_role_with_nothing_else():
    entries = [Entry(code(number)) for number in range(2_000)]

    assert 500 < len(fit(entries, deny_policy.MOST_CHARACTERS, **HERE).kept) < 570


# --- what the stand-in makes of it ---------------------------------------------------------------


def test_the_named_sessions_die_and_nobody_elses(revoker, target_role):
    alice, alices_other, bob = (target_role.session(f"{name}-alice") for name in (ALICE, CAROL, BOB))
    assert works(alice)

    before = datetime.now(UTC)
    written = deny_policy.write(target_role.place(), generation=1, entries=[Entry(ALICE)], expected=[None])
    after = datetime.now(UTC)

    assert not works(alice)
    assert not works(target_role.session(f"{ALICE}-alice"))  # nor one minted afterwards
    assert works(alices_other)
    assert works(bob)
    assert written.confirmed
    assert written.at
    assert before - timedelta(seconds=1) <= written.at <= after
    # Cannot be denied, on AWS neither: EKS and Vault take it as proof until the session's own end.
    assert alice.client("sts").get_caller_identity()["Arn"].endswith(f"/{ALICE}-alice")


def test_sessions_of_the_same_name_on_another_role_live(revoker, target_role):
    elsewhere = revoker.assume(
        "minter", PAYMENTS.role_arn("ReadOnly"), RoleSessionName=f"{ALICE}-alice", ExternalId=PAYMENTS.external_id
    )

    deny_policy.write(target_role.place(), generation=1, entries=[Entry(ALICE)], expected=[None])

    assert works(elsewhere)


def test_the_document_is_complete_each_time_so_whoever_is_left_out_lives_again(revoker, target_role):
    place = target_role.place()
    alice, bob = target_role.session(f"{ALICE}-alice"), target_role.session(f"{BOB}-bob")
    first = deny_policy.write(place, generation=1, entries=[Entry(ALICE)], expected=[None])

    second = deny_policy.write(place, generation=2, entries=[Entry(BOB)], expected=[first.draft.document])

    assert works(alice)
    assert not works(bob)
    assert second.draft.seen is Seen.AS_WRITTEN
    assert second.draft.unknown == ()
    assert second.draft.before.codes == {ALICE}
    assert second.draft.room == first.draft.room  # what it takes the place of takes none


def test_what_is_read_back_is_what_was_written(revoker, target_role):
    place, since = target_role.place(), datetime.now(UTC).replace(microsecond=0)
    written = deny_policy.write(place, generation=9, entries=[Entry(ALICE)], expected=[None], since=since)

    standing = deny_policy.read(place)

    assert standing.document == written.draft.document
    assert standing.codes == {ALICE}
    assert (standing.generation, standing.since) == (9, since)
    assert standing.seen([written.draft.document]) is Seen.AS_WRITTEN
    assert not standing.foreign
    assert standing.at


def test_other_inline_policies_are_untouched_and_take_their_room(revoker, target_role):
    spaced = json.dumps({"Version": "2012-10-17", "Statement": [filler(2_000)]}, indent=8)
    target_role.put_text("somebody elses", spaced)
    before = target_role.policies()

    written = deny_policy.write(target_role.place(), generation=1, entries=[Entry(ALICE)], expected=[None])

    taken = sum(characters(json.dumps(policy)) for policy in before.values())
    assert written.draft.room == deny_policy.MOST_CHARACTERS - taken
    assert written.draft.characters == characters(written.draft.document)
    ours = target_role.policies().pop("daypass-here-ended")
    assert ours == parsed(written.draft.document)
    assert {name: policy for name, policy in target_role.policies().items() if name != "daypass-here-ended"} == before


def test_two_installations_never_fight(revoker, target_role):
    here, there = target_role.place("here"), target_role.place("there")
    alice, bob = target_role.session(f"{ALICE}-alice"), target_role.session(f"{BOB}-bob")

    ours = deny_policy.write(here, generation=1, entries=[Entry(ALICE)], expected=[None])
    theirs = deny_policy.write(there, generation=1, entries=[Entry(BOB)], expected=[None])
    again = deny_policy.write(here, generation=2, entries=[Entry(ALICE)], expected=[ours.draft.document])

    assert again.draft.seen is Seen.AS_WRITTEN
    assert again.draft.unknown == ()
    assert (works(alice), works(bob)) == (False, False)
    deny_policy.remove(here, [again.draft.document])
    assert (works(alice), works(bob)) == (True, False)
    assert deny_policy.read(there).seen([theirs.draft.document]) is Seen.AS_WRITTEN


# --- somebody else has a hand in it --------------------------------------------------------------


def test_a_policy_lifted_by_another_session_of_the_role_is_seen_and_put_back(revoker, target_role):
    place, alice = target_role.place(), target_role.session(f"{ALICE}-alice")
    bob = target_role.session(f"{BOB}-bob")  # minted without the session policy that forbids this
    written = deny_policy.write(place, generation=1, entries=[Entry(ALICE)], expected=[None])
    bob.client("iam").delete_role_policy(RoleName=target_role.name, PolicyName="daypass-here-ended")
    assert works(alice)

    assert deny_policy.read(place).seen([written.draft.document]) is Seen.GONE
    again = deny_policy.write(place, generation=1, entries=[Entry(ALICE)], expected=[written.draft.document])

    assert again.draft.seen is Seen.GONE
    assert not works(alice)


def test_codes_that_we_do_not_know_stay_denied_and_are_reported(revoker, target_role):
    place, bob = target_role.place(), target_role.session(f"{BOB}-bob")
    target_role.put_text("daypass-here-ended", document(installation="here", generation=3, entries=[Entry(BOB)]))

    written = deny_policy.write(place, generation=1, entries=[Entry(ALICE)], expected=[None])

    assert written.draft.seen is Seen.CHANGED_OUTSIDE
    assert written.draft.unknown == (BOB,)
    assert deny_policy.read(place).codes == {ALICE, BOB}
    assert not works(bob)


def test_a_generation_is_above_whatever_stands_there(revoker, target_role):
    """Or an old document could answer the probe of a new one, as after restoring a backup."""
    target_role.put_text("daypass-here-ended", document(installation="here", generation=30, entries=[]))

    written = deny_policy.write(target_role.place(), generation=4, entries=[], expected=[None])

    assert written.draft.generation == 31
    assert deny_policy.read(target_role.place()).generation == 31


OURS = document(installation="here", generation=3, entries=[Entry(ALICE)])
CHANGES = {
    "lifted in place": OURS.replace("Deny", "Allow"),
    "limited": OURS.replace('"Action":"*"', '"Action":"s3:*"'),
    "softened": OURS.replace('"StringLike":', '"Bool":{"aws:SecureTransport":"false"},"StringLike":'),
    "another name": OURS.replace(f"*:{ALICE}-*", "*:alice"),
    "everybody": OURS.replace(f"*:{ALICE}-*", "*"),
    "another installation's probe": OURS.replace("-here-", "-there-"),
    "something else": json.dumps({"Version": "2012-10-17", "Statement": filler(3)}),
    "another time": json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": {
                "Effect": "Deny",
                "Action": "*",
                "Resource": "*",
                "Condition": {"DateLessThan": {"aws:TokenIssueTime": "soon"}},
            },
        }
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_document_is_seen_and_made_right(revoker, target_role, change):
    target_role.put_text("daypass-here-ended", CHANGES[change])
    place = target_role.place()

    standing = deny_policy.read(place)
    assert standing.foreign
    assert standing.seen([OURS]) is Seen.CHANGED_OUTSIDE
    written = deny_policy.write(place, generation=4, entries=[Entry(ALICE)], expected=[OURS])

    assert written.draft.seen is Seen.CHANGED_OUTSIDE
    assert not deny_policy.read(place).foreign
    assert not works(target_role.session(f"{ALICE}-alice"))


@pytest.mark.parametrize("text", ["", "null", "[]", '{"Statement": 3}', '{"Statement": [null, {"Condition": 4}]}', "x"])
def test_nonsense_is_foreign_and_not_an_error(text):
    assert deny_policy._read(text, "here").foreign


def test_a_draft_whose_writer_died_is_not_taken_for_somebody_elses(revoker, target_role):
    """Killed after the put and before the record: what was announced may stand there, or what stood before."""
    place, announced = target_role.place(), []

    def die(draft: Draft) -> None:
        announced.append(draft.document)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deny_policy.write(place, generation=1, entries=[Entry(ALICE)], expected=[None], about_to_put=die)
    assert deny_policy.read(place).document is None
    assert deny_policy.read(place).seen([None, *announced]) is Seen.AS_WRITTEN

    target_role.put_text("daypass-here-ended", announced[0])
    again = deny_policy.write(place, generation=2, entries=[], expected=[None, *announced])

    assert again.draft.seen is Seen.AS_WRITTEN
    assert again.draft.unknown == ()
    assert deny_policy.read(place).codes == set()


def test_the_draft_is_told_before_aws_is(revoker, target_role):
    place = target_role.place()
    told: list[tuple[Draft, str | None]] = []

    written = deny_policy.write(
        place,
        generation=1,
        entries=[Entry(ALICE)],
        expected=[None],
        about_to_put=lambda draft: told.append((draft, deny_policy.read(place).document)),
    )

    assert told == [(written.draft, None)]


# --- no room -------------------------------------------------------------------------------------


def test_on_overflow_returned_passes_are_left_out_and_said(revoker, target_role):
    target_role.put("much else", filler(9_000))
    place = target_role.place()
    entries = [Entry(code(number), returned=number % 2 == 0) for number in range(60)]

    written = deny_policy.write(place, generation=1, entries=entries, expected=[None])

    assert written.draft.fit.dropped
    assert all(entry.returned for entry in written.draft.fit.dropped)
    assert deny_policy.read(place).codes == {entry.code for entry in written.draft.fit.kept}
    assert deny_policy.MOST_CHARACTERS - written.draft.room + written.draft.characters <= deny_policy.MOST_CHARACTERS


def test_without_room_for_the_revoked_nothing_is_put_until_there_is_a_fallback(revoker, target_role):
    target_role.put("much else", filler(9_700))
    place, gone, other = target_role.place(), target_role.session(f"{code(59)}-x"), target_role.session(f"{BOB}-bob")
    ended_at = datetime.now(UTC)
    entries = [Entry(code(number), issued_before=ended_at) for number in range(60)]

    with pytest.raises(NoRoom) as no_room:
        deny_policy.write(place, generation=1, entries=entries, expected=[None])
    assert no_room.value.fit.fallback_needed
    assert deny_policy.read(place).document is None

    since = (ended_at + timedelta(seconds=1)).replace(microsecond=0)
    written = deny_policy.write(place, generation=1, entries=entries, expected=[None], since=since)

    assert written.draft.fit.kept
    assert written.draft.fit.dropped
    assert not works(gone)  # left out by name, and denied all the same
    assert not works(other)  # the price, and why operators are told
    time.sleep(max(0.0, (since - datetime.now(UTC)).total_seconds()))
    assert works(target_role.session(f"{BOB}-bob"))


def test_a_fallback_does_not_stand_in_for_what_was_issued_after_it(revoker, target_role):
    target_role.put("much else", filler(9_700))
    late = [Entry(code(number), issued_before=MOMENT + timedelta(1)) for number in range(60)]

    with pytest.raises(NoRoom):
        deny_policy.write(target_role.place(), generation=1, entries=late, expected=[None], since=MOMENT)


def test_a_full_role_is_a_refusal_that_says_what_to_do(revoker, target_role):
    target_role.put("everything", filler(9_990))

    with pytest.raises(Refused) as refused:
        deny_policy.write(target_role.place(), generation=1, entries=[Entry(ALICE)], expected=[None])

    assert not isinstance(refused.value, NoRoom)
    assert refused.value.code == "LimitExceeded"
    assert "10,240" in refused.value.message
    assert "managed policies" in refused.value.advice


def test_our_count_is_awss(revoker, target_role, monkeypatch):
    """Filled to the last character it is taken; one more and AWS itself refuses."""
    target_role.put("much else", filler(9_000))
    place = target_role.place()
    room = deny_policy.read(place).room
    entries = [Entry(code(number), returned=True) for number in range(200)]
    exact = fit(entries, room, installation="here", generation=1)
    short = room - characters(document(installation="here", generation=1, entries=exact.kept))
    target_role.put("much else", filler(9_000 + short))

    assert deny_policy.write(place, generation=1, entries=exact.kept, expected=[None]).draft.room == room - short
    target_role.iam.delete_role_policy(RoleName=target_role.name, PolicyName="daypass-here-ended")
    target_role.put("much else", filler(9_001 + short))
    monkeypatch.setattr(deny_policy, "MOST_CHARACTERS", deny_policy.MOST_CHARACTERS + 1)
    with pytest.raises(Refused) as refused:
        deny_policy.write(place, generation=1, entries=exact.kept, expected=[None])
    assert refused.value.code == "LimitExceeded"
    assert "managed policies" in refused.value.advice


# --- taking it away ------------------------------------------------------------------------------


def test_nothing_is_left_when_nothing_is_wanted(revoker, target_role):
    place, alice = target_role.place(), target_role.session(f"{ALICE}-alice")
    written = deny_policy.write(place, generation=1, entries=[Entry(ALICE)], expected=[None])

    removed = deny_policy.remove(place, [written.draft.document])

    assert removed.removed
    assert removed.seen is Seen.AS_WRITTEN
    assert list(target_role.policies()) == ["permissions"]
    assert works(alice)
    assert deny_policy.remove(place, [None]).removed  # a second time does no harm


def test_a_policy_with_codes_that_we_do_not_know_stays(revoker, target_role):
    target_role.put_text("daypass-here-ended", document(installation="here", generation=1, entries=[Entry(BOB)]))

    removed = deny_policy.remove(target_role.place(), [None])

    assert not removed.removed
    assert removed.unknown == (BOB,)
    assert "daypass-here-ended" in target_role.policies()


# --- AWS says no ---------------------------------------------------------------------------------


def test_a_role_that_is_gone_is_said_so(revoker, target_role):
    """The revoker is allowed roles by their path, and one that is missing has none."""
    target_role.delete()

    with pytest.raises(Refused) as refused:
        deny_policy.write(target_role.place(), generation=1, entries=[Entry(ALICE)], expected=[None])

    assert refused.value.code == "AccessDenied"
    assert "the role is gone" in refused.value.advice


def test_a_revokers_role_that_does_not_trust_us_is_named_in_the_advice(revoker, target_role):
    place = iam.Place(target_role.arn, revoker_arn(PAYMENTS.id), "us-east-1", "here", "somebody-elses")

    with pytest.raises(Refused) as refused:
        deny_policy.read(place)

    assert refused.value.code == "AccessDenied"
    assert "revoker role" in refused.value.advice


def test_a_role_that_the_revoker_may_not_touch(revoker, target_role):
    """The revoker's role is limited to a path."""
    with pytest.raises(Refused) as refused:
        deny_policy.read(
            iam.Place(revoker_arn(PAYMENTS.id), revoker_arn(PAYMENTS.id), "us-east-1", "here", PAYMENTS.external_id)
        )

    assert refused.value.code == "AccessDenied"
    assert "iam:ListRolePolicies" in refused.value.message
    assert "should allow it" in refused.value.advice


def test_the_minter_cannot_write_deny_policies(minter, target_role):
    with pytest.raises(Refused) as refused:
        deny_policy.read(target_role.place())

    assert "sts:AssumeRole" in refused.value.message


def test_the_revokers_session_can_do_nothing_but_its_work(revoker, target_role):
    """Whatever else its role may do: the session is narrowed."""
    root = revoker.root(PAYMENTS.id).client("iam")
    wide = json.dumps({"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}})
    root.put_role_policy(RoleName="daypass-revoker", PolicyName="too-much", PolicyDocument=wide)
    try:
        with pytest.raises(Refused) as refused:
            iam.ask(target_role.place(), "update_assume_role_policy", PolicyDocument=wide)
    finally:
        root.delete_role_policy(RoleName="daypass-revoker", PolicyName="too-much")

    assert refused.value.code == "AccessDenied"


@pytest.mark.parametrize(
    "place",
    [
        (ACCOUNTS[1].role_arn("ReadOnly"), revoker_arn(PAYMENTS.id)),
        ("arn:aws-cn:iam::222222222222:role/x", revoker_arn(PAYMENTS.id)),
        ("arn:aws:iam::222222222222:role/*", revoker_arn(PAYMENTS.id)),
        (PAYMENTS.role_arn("ReadOnly"), "arn:aws:iam::222222222222:user/x"),
    ],
)
def test_a_place_is_one_role_and_the_revokers_role_in_its_own_account(place):
    with pytest.raises(ValueError, match="role"):
        iam.Place(place[0], place[1], "us-east-1", "here")


@pytest.mark.parametrize(
    ("code", "kind", "advice"),
    [
        ("NoSuchEntity", Refused, "catalog"),
        ("LimitExceeded", Refused, "managed policies"),
        ("LimitExceededException", Refused, "managed policies"),
        ("MalformedPolicyDocument", Refused, "fault in Daypass"),
        ("UnmodifiableEntity", Refused, "cannot be ended early"),
        ("AccessDenied", Refused, "should allow it"),
        ("ConcurrentModification", Unavailable, "tries again"),
        ("EntityTemporarilyUnmodifiable", Unavailable, "tries again"),
        ("Throttling", Unavailable, "slow down"),
        ("ServiceFailure", Unavailable, "try again"),
        ("ExpiredToken", Unavailable, "makes another"),
    ],
)
def test_what_iam_says_is_told_apart(code, kind, advice):
    answer: Any = {
        "Error": {"Code": code, "Message": "So."},
        "ResponseMetadata": {"HTTPStatusCode": 500 if code == "ServiceFailure" else 400},
    }

    failure = iam._from_iam(botocore.ClientError(answer, "PutRolePolicy"))

    assert type(failure) is kind
    assert (failure.code, failure.message) == (code, "So.")
    assert advice in failure.advice


def test_one_session_of_the_revokers_role_serves_many_calls_until_it_is_nearly_over(
    revoker, target_role, assumed, monkeypatch
):
    place = target_role.place()

    deny_policy.read(place)
    deny_policy.read(place)
    (order,) = assumed.orders
    assert order.session_name == "DP-REVOKE-here"

    for seconds, sessions in ((3_200, 1), (3_301, 2)):
        monkeypatch.setattr(iam, "time", SimpleNamespace(monotonic=lambda ahead=seconds: time.monotonic() + ahead))
        deny_policy.read(place)
        assert len(assumed.orders) == sessions


def test_a_session_that_aws_no_longer_takes_is_replaced_for_the_next_try(revoker, target_role):
    place = target_role.place()
    deny_policy.read(place)
    (session,) = iam._sessions.values()
    stale = revoker.as_session(
        {"AccessKeyId": "ASIAUNKNOWNKEY000000", "SecretAccessKey": "x" * 40, "SessionToken": "x"}
    )
    session.clients["iam"] = stale.client("iam")

    with pytest.raises(Unavailable) as unavailable:
        deny_policy.read(place)
    assert "makes another" in unavailable.value.advice
    assert deny_policy.read(place).room > 0


_MINTED = """<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
<AccessKeyId>ASIAABCDEFGHIJKLMNOP</AccessKeyId><SecretAccessKey>x</SecretAccessKey><SessionToken>x</SessionToken>
<Expiration>2026-11-22T21:00:00Z</Expiration></Credentials><AssumedRoleUser><AssumedRoleId>AROA:x</AssumedRoleId>
<Arn>arn:x</Arn></AssumedRoleUser></AssumeRoleResult></AssumeRoleResponse>"""
_ID = "<ResponseMetadata><RequestId>r</RequestId></ResponseMetadata>"
_NO_POLICIES = f"""<ListRolePoliciesResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><ListRolePoliciesResult>
<PolicyNames/><IsTruncated>false</IsTruncated></ListRolePoliciesResult>{_ID}</ListRolePoliciesResponse>"""
_MISSING = """<ErrorResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><Error><Type>Sender</Type>
<Code>NoSuchEntity</Code><Message>None.</Message></Error></ErrorResponse>"""
_PUT = f"""<PutRolePolicyResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/">{_ID}</PutRolePolicyResponse>"""
_ANSWERS = {
    b"AssumeRole": Script.answer(_MINTED),
    b"ListRolePolicies": Script.answer(_NO_POLICIES),
    b"GetRolePolicy": Script.answer(_MISSING, 404),
    b"PutRolePolicy": Script.silence,
}


@pytest.fixture
def facing(as_worker, server):
    """A server in AWS's place that answers each action by a script."""

    def face(answers: dict[bytes, Any]) -> Any:
        servers: list[Any] = []

        def script(connection: Any) -> None:
            action = next(action for action in answers if b"Action=" + action + b"&" in servers[0].requests[-1])
            answers[action](connection)

        servers.append(server(script))
        keys = {"AWS_ACCESS_KEY_ID": "AKIAABCDEFGHIJKLMNOP", "AWS_SECRET_ACCESS_KEY": "x" * 40}
        as_worker(keys | {"AWS_ENDPOINT_URL": servers[0].url, "AWS_REGION": "us-east-1"})
        return servers[0]

    return face


@pytest.mark.parametrize(
    "bad", [_NO_POLICIES[:-60], _NO_POLICIES.replace("PolicyNames", "Nothing"), "", "<html>", "\x00"]
)
def test_an_answer_that_cannot_be_read_is_unavailable_and_nothing_is_put(facing, target_role, bad):
    aws = facing(_ANSWERS | {b"ListRolePolicies": Script.answer(bad)})

    with pytest.raises(Unavailable) as unavailable:
        deny_policy.write(target_role.place(), generation=1, entries=[Entry(ALICE)], expected=[None])

    assert unavailable.value.code == "MalformedAnswer"
    assert aws.count(b"Action=PutRolePolicy") == 0


def test_a_put_that_cannot_be_read_back_is_not_confirmed(facing, target_role):
    aws = facing(_ANSWERS | {b"PutRolePolicy": Script.answer(_PUT)})

    written = deny_policy.write(target_role.place(), generation=1, entries=[Entry(ALICE)], expected=[None])

    assert not written.confirmed
    assert aws.count(b"Action=PutRolePolicy") == 1


def test_what_is_scoped_is_named_first_and_never_counts_as_denied_by_a_moment():
    """Nobody proved what AWS says of the moment in which scoped keys were issued."""
    since = datetime(2026, 11, 23, 12, tzinfo=UTC)
    codes = [f"DP-0000000{number}" for number in range(4)]
    entries = [
        deny_policy.Entry(code, issued_before=since, by_name_only=number % 2 == 1) for number, code in enumerate(codes)
    ]
    bare = deny_policy.document(installation="here", generation=1, entries=(), since=since)
    two = deny_policy.document(installation="here", generation=1, entries=entries[:2], since=since)
    fitting = deny_policy.fit(entries, deny_policy.characters(two), installation="here", generation=1, since=since)

    assert deny_policy.characters(two) > deny_policy.characters(bare)
    assert [entry.code for entry in fitting.kept] == [codes[1], codes[3]]
    assert [deny_policy.is_denied_by(since, entry) for entry in entries] == [True, False, True, False]
    assert not fitting.fallback_needed
