"""What each thing would cost with no product around it. These are the measure, so they stay as they are.

Each is a function to be called again and again beside the product, in the same run; its docstring says what is in it.
Whatever they write goes through the real guards: by the application's own database role, in transactions that are
durable when they are committed, the same rows that the product wrote in the same run (`bench.rows` records them).
Only what is sent to PostgreSQL is bare: prepared, and of fixed shape. None imports anything of the product.
"""

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.message import EmailMessage
from hashlib import sha256
from typing import Any

import boto3
import psycopg
import redis
from botocore.config import Config
from celery import Celery
from joserfc import jwe
from joserfc.jwk import ECKey

from bench.inside.bare import replay
from bench.machine import Act
from bench.product import Product

# The session policy of a pass that nothing narrows, as the product sends it.
POLICY = (
    '{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*","Condition":'
    '{"DateGreaterThanEquals":{"aws:CurrentTime":"2036-11-29T23:00:00Z"}}},{"Effect":"Deny","Action":["iam:PutRole*",'
    '"iam:DeleteRole*","iam:*tachRole*","iam:*Assume*"],"Resource":"%s"},{"Effect":"Deny","Action":["sts:Get*Cred*",'
    '"sts:Assume*","sts:Get*Token","s3:GetData*","signin:*OAuth*","signin:Exch*","signin:Create*Token"],'
    '"Resource":"*"},{"Effect":"Allow","Action":"*","Resource":"*"}]}'
)


def signed_in_request(product: Product) -> Act:
    """One POST with a sign-in, CSRF's token and the body of a wish, to a view that does nothing.

    By HTTP, through the same gunicorn and the whole middleware of the product (`bench.inside.bare`): session and
    person are read from the database, a log line is written.
    """
    person, key = product.bare_people[0], ECKey.generate_key("P-256").as_dict(private=False)

    def post(_: int) -> None:
        answer = person.http.post("/", data={"code": "DP-00000000", "kind": "credentials", "jwk": str(key)})
        assert answer.status_code == 200, answer.text

    return post


@contextlib.contextmanager
def celery_trip(product: Product) -> Iterator[Act]:
    """One message to a worker that does nothing, from `send_task` to its acknowledgement after the (empty) work.

    A bare Celery on the same Redis: threads, late acknowledgement, no results, none of the product's signals and logs.
    Redis says when the worker has taken the message out of its hash of what is being worked on.
    """
    address = product.redis.rsplit("/", 1)[0] + "/1"
    app = Celery("bare", broker=address, set_as_current=False)
    app.conf.update(task_ignore_result=True)
    client: Any = redis.Redis.from_url(address)
    client.config_set("notify-keyspace-events", "Kh")
    acknowledged = client.pubsub(ignore_subscribe_messages=True)
    acknowledged.subscribe("__keyspace@1__:unacked")
    acknowledged.get_message(timeout=1)

    def there_and_back(_: int) -> None:
        app.send_task("bare.nothing", [0], queue="bare", expires=600, retry=False)
        while (message := acknowledged.get_message(timeout=10)) is None or message["data"] != b"hdel":
            pass

    try:
        yield there_and_back
    finally:
        acknowledged.close()
        client.config_set("notify-keyspace-events", "")
        app.close()


def sts_calls(product: Product) -> Act:
    """One AssumeRole by a boto3 client that is kept, as the minter, with the parameters that the product sends.

    One, because that is how many the product makes for a mint. The stand-in for AWS is waited for and not counted.
    """
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        os.environ.pop(name, None)
    os.environ |= {name: value for name, value in product.minter.items() if name.startswith("AWS_")}
    client = boto3.session.Session().client("sts", config=Config(retries={"total_max_attempts": 1}))

    def assume_role(_: int) -> None:
        client.assume_role(
            RoleArn=product.role_arn,
            RoleSessionName="DP-00000000-bench",
            DurationSeconds=3600,
            ExternalId=product.external_id,
            SourceIdentity="person-0123456789",
            Policy=POLICY % product.role_arn,
        )

    return assume_role


def seal() -> Act:
    """One compact JWE (ECDH-ES on P-256, A256GCM) of a payload as long as that of keys, by joserfc."""
    key = ECKey.generate_key("P-256").as_dict(private=False)

    def encrypt(_: int) -> None:
        recipient = ECKey.import_key(dict(key))
        payload = b'{"secret_access_key": "%s", "session_token": "%s"}' % (b"s" * 40, b"t" * 900)
        jwe.encrypt_compact({"alg": "ECDH-ES", "enc": "A256GCM"}, payload, recipient, algorithms=["ECDH-ES", "A256GCM"])

    return encrypt


def one_mail(product: Product) -> Act:
    """One mail of text and HTML, put together from ready words and written to a file, as the product's are here."""
    folder = product.folder / "floor-mail"
    folder.mkdir(exist_ok=True)
    turns = itertools.count()

    def send(_: int) -> None:
        message = EmailMessage()
        message["Subject"] = (
            "Keys for ReadOnly in payments-prod were issued to a browser signed in as you (DP-00000000)"
        )
        message["From"], message["To"] = "Daypass <daypass@localhost>", "alice@example.com"
        message["Auto-Submitted"] = "auto-generated"
        words = "Keys for ReadOnly in payments-prod were issued to a browser signed in as you.\n" * 12
        message.set_content(words)
        message.add_alternative("<!doctype html><table>" + "<tr><td>" * 12 + words + "</table>", subtype="html")
        with (folder / f"{next(turns)}.log").open("xb") as file:
            file.write(message.as_bytes())

    return send


@dataclass
class MintRows:
    """The rows, reads, locks and commits of one mint, by bare prepared statements on one connection; and Redis's part.

    Six commits, all durable, four of them checked: *ask* (hold the request, the person and the role, read the facts,
    count the limits; the delivery and its event), *claim* (hold request and delivery, read the facts; claimed), *record
    and seal* (the same; session, event, notice, sealed; then the envelope into Redis), *hand over* (the same, the
    envelope out of Redis; delivered, and its event), *take the mail*, *note that it was sent*. The facts are one
    statement that reads whatever the rule of minting depends on, in the tables that it stands in. Each checked one
    reads the clock after its locks. Before the claim it is looked whether the database is the one that it was.
    """

    connection: psycopg.Connection
    store: "redis.Redis"
    recorded: Mapping[str, Any]
    given: dict[str, str]
    insert: dict[str, Any] = field(init=False)
    steps: dict[str, dict[str, Any]] = field(init=False)
    events: list[Mapping[str, Any]] = field(init=False)
    envelope: str = "e" * 1800

    def __post_init__(self) -> None:
        self.connection.prepare_threshold = 0
        rows = {
            name: [one for one in self.recorded["rows"] if one["table"] == f"requests_app_{name}"] for name in _WRITTEN
        }
        left = [one for one in self.recorded["rows"] if one["table"].removeprefix("requests_app_") not in _WRITTEN]
        assert not left, left
        (delivery,), self.events = rows["delivery"], rows["auditevent"]
        assert len(self.events) >= 3, self.events
        self.session = [_with_columns(one, _with_the_pass) for one in rows["issuedsession"]]
        # Not due yet: or the product would send it, too.
        self.notices = [_with_columns(one, _tomorrow) for one in rows["notice"]]
        later = {name for names in _STAGES.values() for name in names}
        self.insert = _with_columns(delivery, lambda one: _at_first(one) if one[0] in later else one)
        key = {"table": delivery["table"], "what": "update", "key": "id", "where": "{" + delivery["token"] + "}"}
        self.steps = {
            state: key | {"columns": [_as_of(one, state) for one in delivery["columns"] if one[0] in names]}
            for state, names in _STAGES.items()
        }

    def mint(self, _: int) -> None:
        self._mail(self._until_keys())

    def until_keys(self, _: int) -> None:
        """Without the mail, which nobody waits for."""
        self._until_keys()

    def _until_keys(self) -> dict[str, str]:
        tokens = replay.fresh(self.recorded) | self.given
        self._ask(tokens)
        self._is_the_one_that_it_was()
        with self._checked(tokens) as (cursor, now):
            replay.write(cursor, self.steps["claimed"], tokens, now)
        with self._checked(tokens) as (cursor, now):
            for row in (*self.session, *self.events[1:-1], *self.notices):
                replay.write(cursor, row, tokens, now)
            replay.write(cursor, self.steps["sealed"], tokens, now)
        key = f"floor:{tokens[self.insert['token']]}"
        self.store.set(key, self.envelope, ex=60)
        with self._checked(tokens) as (cursor, now):
            assert self.store.getdel(key)
            sha256(self.envelope.encode()).hexdigest()
            replay.write(cursor, self.steps["delivered"], tokens, now)
            replay.write(cursor, self.events[-1], tokens, now)
        return tokens

    def _ask(self, tokens: dict[str, str]) -> None:
        with self.connection.transaction(), self.connection.cursor() as cursor:
            now = replay.look(cursor, "requests_app_accessrequest", tokens)
            _read(cursor, _FACTS, tokens)
            _read(cursor, "SELECT id FROM requests_app_user WHERE id = %(person)s::bigint FOR NO KEY UPDATE", tokens)
            _read(cursor, "SELECT id FROM requests_app_role WHERE id = %(role)s::bigint FOR NO KEY UPDATE", tokens)
            _read(cursor, _LIMITS, tokens)
            replay.write(cursor, self.insert, tokens, now)
            replay.write(cursor, self.events[0], tokens, now)

    @contextlib.contextmanager
    def _checked(self, tokens: dict[str, str]) -> Iterator[tuple["psycopg.Cursor[Any]", Any]]:
        delivery = {"delivery": tokens[self.insert["token"]], **tokens}
        with self.connection.transaction(), self.connection.cursor() as cursor:
            now = replay.look(cursor, "requests_app_accessrequest", tokens)
            _read(
                cursor,
                "SELECT * FROM requests_app_delivery WHERE id = %(delivery)s::bigint FOR NO KEY UPDATE",
                delivery,
            )
            _read(cursor, _FACTS, tokens)
            yield cursor, now

    def _is_the_one_that_it_was(self) -> None:
        with self.connection.transaction(), self.connection.cursor() as cursor:
            _read(cursor, "SELECT * FROM requests_app_installation", {})
            self.store.get("floor:watermark")
            _read(cursor, "SELECT recorded_at FROM requests_app_auditevent ORDER BY id DESC LIMIT 1", {})

    def _mail(self, tokens: dict[str, str]) -> None:
        for notice in self.notices:
            key = {"notice": tokens[notice["token"]]}
            with self.connection.transaction(), self.connection.cursor() as cursor:
                _read(cursor, _TAKE_MAIL, key)
                cursor.execute(
                    "UPDATE requests_app_notice SET attempts = attempts + 1,"
                    " due_at = clock_timestamp() + interval '10 min' WHERE id = %(notice)s::bigint",
                    key,
                    prepare=True,
                )
            with self.connection.transaction(), self.connection.cursor() as cursor:
                _read(cursor, _READ_MAIL, key)
                cursor.execute(
                    "UPDATE requests_app_notice SET sent_at = clock_timestamp() WHERE id = %(notice)s::bigint",
                    key,
                    prepare=True,
                )


_WRITTEN = ("delivery", "auditevent", "issuedsession", "notice")
_STAGES = {
    "claimed": ("state", "claimed_at", "claimed_by"),
    "sealed": ("state", "sealed_at", "envelope_sha256"),
    "delivered": ("state", "finished_at"),
}


def _with_columns(row: Mapping[str, Any], change: Callable[[list[Any]], list[Any]]) -> dict[str, Any]:
    return {**row, "columns": [change(column) for column in row["columns"]]}


def _at_first(column: list[Any]) -> list[Any]:
    name, kind, _ = column
    if name == "state":
        return [name, kind, {"text": "asked"}]
    return [name, kind, None if name.endswith("_at") else {"text": ""}]


def _with_the_pass(column: list[Any]) -> list[Any]:
    """The end of the pass does not move with the mint."""
    return [*column[:2], {"text": column[2]["text"]}] if column[0] == "cut_off" else column


def _tomorrow(column: list[Any]) -> list[Any]:
    return [*column[:2], {"seconds": 86_400}] if column[0] == "due_at" else column


def _as_of(column: list[Any], state: str) -> list[Any]:
    name, kind, source = column
    return [name, kind, {"text": state} if name == "state" else {"seconds": 0} if name.endswith("_at") else source]


def _read(cursor: "psycopg.Cursor[Any]", statement: str, values: Mapping[str, str]) -> None:
    cursor.execute(statement, values, prepare=True)
    cursor.fetchall()


_HOLD_DELIVERY = "SELECT * FROM requests_app_delivery WHERE id = %(delivery)s::bigint FOR NO KEY UPDATE"
# Whatever the rule of minting depends on: the pass, the person, their groups and edits, the entitlement and whom it
# reaches, leaves out and gives, role, account and unit, what is frozen or held, and AWS's clock.
_FACTS = """
SELECT r.*, u.deactivated_at, u.time_zone, role.*, a.*, e.is_active,
       EXISTS (SELECT FROM requests_app_entitlementgroup g JOIN requests_app_membership m ON m.group_id = g.group_id
               WHERE g.entitlement_id = e.id AND m.user_id = u.id) AS reached,
       EXISTS (SELECT FROM requests_app_entitlementuser WHERE entitlement_id = e.id AND user_id = u.id) AS named,
       EXISTS (SELECT FROM requests_app_excludedgroup g JOIN requests_app_membership m ON m.group_id = g.group_id
               WHERE g.entitlement_id = e.id AND m.user_id = u.id) AS left_out,
       EXISTS (SELECT FROM requests_app_excludeduser WHERE entitlement_id = e.id AND user_id = u.id) AS left_out_too,
       EXISTS (SELECT FROM requests_app_entitlementasker g JOIN requests_app_membership m ON m.group_id = g.group_id
               WHERE g.entitlement_id = e.id AND m.user_id = u.id) AS may_ask,
       EXISTS (SELECT FROM requests_app_entitlementrole WHERE entitlement_id = e.id AND role_id = role.id) AS given,
       EXISTS (SELECT FROM requests_app_roleselector WHERE entitlement_id = e.id) AS selects,
       EXISTS (SELECT FROM requests_app_edit WHERE confirmed_at IS NULL AND editor_id = u.id
               AND (entitlement_id = e.id OR role_id = role.id OR account_id = a.id OR unit_id = a.unit_id)) AS edited,
       EXISTS (SELECT FROM requests_app_edit WHERE confirmed_at IS NULL AND member_id = u.id) AS placed,
       (SELECT min(f.reason) FROM requests_app_freeze f LEFT JOIN requests_app_role o ON o.id = f.role_id
        WHERE f.lifted_at IS NULL AND (f.account_id = a.id OR o.account_id = a.id AND lower(o.name) = lower(role.name)
                                       OR f.account_id IS NULL AND f.role_id IS NULL)) AS frozen,
       (SELECT held_until FROM requests_app_denypolicy WHERE role_id = role.id) AS held_until,
       (SELECT measured_at FROM requests_app_awsclock WHERE region = 'us-east-1') AS measured_at
FROM requests_app_accessrequest r
JOIN requests_app_user u ON u.id = r.beneficiary_id
JOIN requests_app_role role ON role.id = r.role_id
JOIN requests_app_account a ON a.id = role.account_id
LEFT JOIN requests_app_organisationalunit unit ON unit.id = a.unit_id
JOIN requests_app_entitlement e ON e.id = r.entitlement_id
WHERE r.id = %(id)s::bigint
"""
_LIMITS = """
SELECT (SELECT count(*) FROM requests_app_delivery
        WHERE beneficiary_id = %(person)s::bigint AND asked_at > clock_timestamp() - interval '1 min'),
       (SELECT count(*) FROM requests_app_delivery
        WHERE role_id = %(role)s::bigint AND asked_at > clock_timestamp() - interval '1 min'),
       (SELECT count(*) FROM requests_app_revocation
        WHERE role_id = %(role)s::bigint AND keep_until > clock_timestamp())
"""
_TAKE_MAIL = """
SELECT id FROM requests_app_notice
WHERE due_at <= clock_timestamp() + interval '2 days' AND sent_at IS NULL AND gave_up_at IS NULL
      AND id = %(notice)s::bigint
ORDER BY due_at LIMIT 50 FOR NO KEY UPDATE SKIP LOCKED
"""
_READ_MAIL = """
SELECT n.*, u.*, r.*, role.name, a.name FROM requests_app_notice n
JOIN requests_app_user u ON u.id = n.recipient_id
LEFT JOIN requests_app_accessrequest r ON r.id = n.access_request_id
LEFT JOIN requests_app_role role ON role.id = r.role_id
LEFT JOIN requests_app_account a ON a.id = role.account_id
WHERE n.id = %(notice)s::bigint
"""
