"""What must be so after a fault, whatever it was. Each check returns sentences about what is not."""

import itertools
import re
import time
from collections import Counter
from collections.abc import Collection, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from sandbox.proxy import Issued
from tests.chaos.arena import Arena, until
from tests.chaos.people import Keys, Load, Told

SETTLED_WITHIN = 110.0
LAG = timedelta(seconds=15)
MOST_TOLD = 5  # of each check
OFFSET = timedelta(seconds=32)  # within which AWS's clock may be apart, and how well that is known

# What must be in the database once a page has said so.
_STATES = {
    "denied": {"denied"},
    "withdrawn": {"withdrawn"},
    "returned": {"returned"},
    "revoked": {"revoked"},
    # What came after may be anything that follows it.
    "asked": {"pending", "denied", "withdrawn", "lapsed", "approved", "active", "expired", "returned", "revoked"},
    "active": {"active", "expired", "returned", "revoked"},
    "started": {"active", "expired", "returned", "revoked"},
}


class Truth:
    """Compares what people remember, what AWS issued and what was posted with the database. Keeps where it was."""

    def __init__(self, arena: Arena, load: Load) -> None:
        self._arena, self._load = arena, load
        self._told = self._held = self._issued = 0
        self._explained: Counter[str] = Counter()
        self._mail = Postbox(arena.stack.folder / "mail")

    def forget(self) -> None:
        """The database lost what happened last: from here on anew. When access ends is looked at all the same."""
        memory = self._load.memory
        self._told, self._held = len(memory.told), len(memory.keys)
        self._issued = len(self._arena.stack.aws_proxy.issued())

    def settled(self, seconds: float = SETTLED_WITHIN, *, wholly: bool = False) -> list[str]:
        """Wait until nothing is on its way any more; `wholly`: wishes too whose worker or taker is gone.

        Those have deadlines of their own, of up to a minute, which the invariants watch.
        """
        on_its_way: list[str] = []
        wishes = ["asked", "claimed", "sealed"] if wholly else ["asked"]

        def nothing() -> bool:
            on_its_way[:] = [f"{what}: {count}" for what, count in self._arena.rows(_ON_ITS_WAY, wishes) if count]
            return not on_its_way

        return [] if until(nothing, seconds) else [f"not settled after {seconds:.0f} s: {', '.join(on_its_way)}"]

    def unproved(self, seconds: float = 90) -> list[str]:
        """Wait until each early end that AWS has taken was seen to be obeyed."""
        until(lambda: not self._codes_revoked("written"), seconds)
        return [f"{code} was never seen to be refused" for code in self._codes_revoked("written")]

    def untrue(self) -> list[str]:
        """Everything that is not as it must be."""
        checks = (
            self._invariants,
            self._forgotten,
            self._open_too_long,
            self._still_let_in,
            self._shut_out,
            self._issued_without_record,
            self._ends_otherwise,
            self._never_posted,
        )
        return [found for check in checks for found in itertools.islice(check(), MOST_TOLD)]

    def explain(self, rules: Collection[str]) -> None:
        """These may rightly be found broken by now; more of them later is another matter."""
        for one in self._broken():
            if one.rule in rules:
                self._explained[one.rule] = one.count

    def _invariants(self) -> Iterator[str]:
        yield from (str(one) for one in self._broken() if one.count > self._explained[one.rule])

    def _broken(self) -> list[Any]:
        from django.db import connection

        from requests_app.domain import clock, invariants

        connection.close()  # PostgreSQL may have been restarted
        found = invariants.broken(clock.now(), lag=LAG, newest=None)
        connection.close()
        return found

    def _forgotten(self) -> Iterator[str]:
        """Nothing that a person was told is missing."""
        told, self._told = self._load.memory.told[self._told :], len(self._load.memory.told)
        states = dict(self._arena.rows("SELECT code, state FROM requests_app_accessrequest"))
        decided = set(
            self._arena.rows(
                "SELECT r.code, u.username, d.verdict FROM requests_app_decision d"
                " JOIN requests_app_accessrequest r ON r.id = d.access_request_id"
                " JOIN requests_app_user u ON u.id = d.approver_id"
            )
        )
        for one in told:
            if not _is_so(one, states, decided):
                yield f"{one.by} was told that {one.code} is {one.what}; the database says {states.get(one.code)}"
        held = {keys.access_key_id for keys in self._load.memory.keys[self._held :]}
        known = {key for (key,) in self._arena.rows(
            "SELECT s.access_key_id FROM requests_app_issuedsession s JOIN requests_app_delivery d"
            " ON d.id = s.delivery_id WHERE d.state = 'delivered' AND NOT s.discarded"
        )}  # fmt: skip
        yield from (f"somebody holds {key}, of which there is no record" for key in sorted(held - known))

    def _open_too_long(self) -> Iterator[str]:
        """No access outlives its end by a second."""
        yield from (keys.outlived for keys in self._load.memory.keys if keys.outlived)
        # Where STS was to end it, identity is proved no longer either.
        identified = [keys.access_key_id for keys in self._load.memory.keys if keys.identified]
        for code, key in self._arena.rows(_ENDED_BY_STS, identified):
            yield f"{code}: AWS says whose {key} are after the end, which STS was to end itself"
        for keys in self._load.memory.keys:
            keys.outlived, keys.identified = "", False

    def _still_let_in(self) -> Iterator[str]:
        """What was ended early, and AWS took the order, is refused there long before its end."""
        refused = self._codes_revoked("written", "proved", "unprovable")
        for keys in self._live_keys():
            if keys.code in refused and self._load.works(keys):
                yield f"{keys.code} is said to be refused by AWS ({refused[keys.code]}), and its keys work"

    def _shut_out(self) -> Iterator[str]:
        """Nobody else's session is ended: the control, which shows too that these keys would work."""
        held = self._load.memory.keys[self._held :]
        active = {code for (code,) in self._arena.rows(_IN_USE + " AND code = ANY(%s)", [keys.code for keys in held])}
        for keys in self._live_keys():
            refused = keys in held and keys.code in active and keys.worked and self._load.works(keys) is False
            # It may have ended while the others were tried.
            if refused and self._arena.rows(_IN_USE + " AND code = %s", keys.code) and not self._is_cut_off(keys):
                yield f"{keys.code} is active, and AWS refuses its keys: {keys.refused}"

    def _is_cut_off(self, keys: Keys) -> bool:
        """Whether AWS rightly refuses these by now, and new ones would work: the pass's end as AWS's clock stood when
        they were issued, or the moment before which everything of a full role is refused."""
        at_aws = time.time() + self._arena.clocks.ahead("aws")
        return bool(self._arena.rows(_CUT_OFF, keys.access_key_id, OFFSET, at_aws + 2))

    def _live_keys(self) -> list[Keys]:
        at_aws = time.time() + self._arena.clocks.ahead("aws")
        return [keys for keys in self._load.memory.keys[-400:] if keys.ends_at > at_aws + 2]

    def _codes_revoked(self, *states: str) -> dict[str, str]:
        return dict(
            self._arena.rows(
                "SELECT r.code, v.state FROM requests_app_revocation v"
                " JOIN requests_app_accessrequest r ON r.id = v.access_request_id WHERE v.state = ANY(%s)",
                list(states),
            )
        )

    def _issued_without_record(self) -> Iterator[str]:
        """All that STS issued is on record, or a delivery says that nobody knows (yet) what AWS did."""
        recorded = {key for (key,) in self._arena.rows(_RECORDED)}
        unknown = Counter(dict(self._arena.rows(_UNKNOWN)))
        # Of what was scoped from these, the answer was lost.
        lost = {key for (key,) in self._arena.rows(_ANSWER_LOST)}
        for issued in self._issued_for_passes():
            if issued.access_key_id in recorded:
                continue
            if issued.parent:
                # With a parent that is not known either, the parent is what is told of.
                if issued.parent in recorded - lost:
                    yield f"AWS scoped {issued.access_key_id} for {issued.session_name}, and nothing tells of it"
                continue
            code = issued.session_name[:11]
            unknown[code] -= 1
            if unknown[code] < 0:
                yield f"AWS issued {issued.access_key_id} for {code}, and nothing tells of it"

    def _ends_otherwise(self) -> Iterator[str]:
        """What AWS says of the end of what people were given is what is on record; and STS ends it with the pass."""
        given = {key: row for key, *row in self._arena.rows(_GIVEN)}
        for issued in self._issued_for_passes():
            if issued.access_key_id not in given or issued.expires_at is None:
                continue
            code, ends_by, ends_at, latest = given[issued.access_key_id]
            if issued.expires_at != ends_at:
                yield f"{code}: AWS ends {issued.access_key_id} at {issued.expires_at}, and {ends_at} is on record"
            if ends_by == "sts" and issued.expires_at > latest:
                yield f"{code}: AWS ends {issued.access_key_id} at {issued.expires_at}, later than the pass"

    def _issued_for_passes(self) -> list[Issued]:
        """Without the sessions that are Daypass's own."""
        codes = {code for (code,) in self._arena.rows("SELECT code FROM requests_app_accessrequest")}
        issued = self._arena.stack.aws_proxy.issued()[self._issued :]
        return [one for one in issued if one.session_name[:11] in codes]

    def _never_posted(self) -> Iterator[str]:
        """Every mail that counts as sent is in the folder, at least once."""
        sent = Counter(
            {
                (code, email): count
                for code, email, count in self._arena.rows(
                    "SELECT r.code, u.email, count(*) FROM requests_app_notice n"
                    " JOIN requests_app_accessrequest r ON r.id = n.access_request_id"
                    " JOIN requests_app_user u ON u.id = n.recipient_id"
                    " WHERE n.sent_at IS NOT NULL AND n.attempts > 0 GROUP BY 1, 2"
                )
            }
        )
        posted = self._mail.read()
        for (code, email), count in sent.items():
            if posted[code, email] < count:
                yield f"{count} mails about {code} to {email} count as sent, {posted[code, email]} were"


class Postbox:
    """The folder that the product's mail goes to; reads each file once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, int] = {}
        self._posted: Counter[tuple[str, str]] = Counter()
        self._of_file: dict[Path, Counter[tuple[str, str]]] = {}

    def read(self) -> Counter[tuple[str, str]]:
        """How many mails about each request went to each address."""
        for file in self._folder.glob("*.log"):
            size = file.stat().st_size
            if self._read.get(file) != size:
                self._posted -= self._of_file.get(file, Counter())
                self._of_file[file] = _mails(file.read_text(errors="replace"))
                self._posted += self._of_file[file]
                self._read[file] = size
        return self._posted


def _mails(text: str) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    for mail in re.split(r"(?m)^-{79}$", text):
        code = re.search(r"(?m)^X-Daypass-Request: (\S+)", mail)
        to = re.search(r"(?m)^To: (\S+)", mail)
        if code and to:
            found[code[1], to[1]] += 1
    return found


def _is_so(told: Told, states: dict[str, str], decided: set[tuple[str, str, str]]) -> bool:
    if told.what == "approved":
        return (told.code, told.by, "approve") in decided
    if told.what == "denied" and (told.code, told.by, "deny") not in decided:
        return False
    return states.get(told.code) in _STATES[told.what]


# Of a session: its keys, its parent's, and those that came too late to be given to anybody.
_RECORDED = """
SELECT access_key_id FROM requests_app_issuedsession
UNION SELECT parent_access_key_id FROM requests_app_issuedsession
UNION SELECT detail->>'access_key_id' FROM requests_app_auditevent WHERE action = 'session.keys_discarded'
"""

# Deliveries of which nobody knows what AWS did: nothing is recorded, or only a parent, which was scoped or followed by
# a session in the older way.
_UNKNOWN = """
SELECT r.code, count(*) FROM requests_app_delivery d
    JOIN requests_app_accessrequest r ON r.id = d.access_request_id
WHERE d.state IN ('unknown', 'claimed') AND NOT EXISTS (
    SELECT FROM requests_app_issuedsession s
    WHERE s.delivery_id = d.id AND (s.parent_access_key_id <> '' OR NOT s.discarded))
GROUP BY 1
"""

_ANSWER_LOST = """
SELECT s.access_key_id FROM requests_app_issuedsession s JOIN requests_app_delivery d ON d.id = s.delivery_id
WHERE s.discarded AND s.parent_access_key_id = '' AND d.state = 'unknown'
"""

_ENDED_BY_STS = """
SELECT r.code, s.access_key_id FROM requests_app_issuedsession s
    JOIN requests_app_accessrequest r ON r.id = s.access_request_id
WHERE s.ends_by = 'sts' AND s.access_key_id = ANY(%s)
"""

# By AWS's clock, which may be apart.
_GIVEN = """
SELECT s.access_key_id, r.code, s.ends_by, s.sts_expires_at, least(s.cut_off, r.expires_at + interval '30 s')
FROM requests_app_issuedsession s JOIN requests_app_accessrequest r ON r.id = s.access_request_id
WHERE NOT s.discarded
"""

_IN_USE = """
SELECT code FROM requests_app_accessrequest WHERE state = 'active' AND expires_at > clock_timestamp() + interval '2 s'
"""

_CUT_OFF = """
SELECT FROM requests_app_issuedsession s JOIN requests_app_accessrequest r ON r.id = s.access_request_id
LEFT JOIN requests_app_denypolicy p ON p.role_id = r.role_id
WHERE s.access_key_id = %s AND (
    s.cut_off >= r.expires_at - %s AND s.cut_off <= to_timestamp(%s) OR s.issued_at <= p.denied_before)
"""

# Claimed mail whose sender died is due again ten minutes later: nothing waits for that.
_ON_ITS_WAY = """
SELECT 'deliveries', count(*) FROM requests_app_delivery WHERE state = ANY(%s)
UNION ALL SELECT 'mails', count(*) FROM requests_app_notice
    WHERE sent_at IS NULL AND gave_up_at IS NULL AND attempts = 0
UNION ALL SELECT 'passes over', count(*) FROM requests_app_accessrequest
    WHERE state = 'active' AND expires_at < clock_timestamp()
UNION ALL SELECT 'early ends', count(*) FROM requests_app_revocation
    WHERE state = 'wanted' AND keep_until > clock_timestamp()
"""
