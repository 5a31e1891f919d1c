import re
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from operator import add, and_, or_
from typing import Any, TypeVar

from django.contrib.postgres.indexes import GinIndex, OpClass
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import connection, models, transaction
from django.db.models import Count, Exists, ExpressionWrapper, F, Func, Lookup, OuterRef, Q, Subquery, Value, Window
from django.db.models.expressions import RawSQL
from django.db.models.functions import Greatest, Lower, RowNumber, Upper
from django.utils.text import slugify

from requests_app.domain import arns, partitions
from requests_app.domain.models.arrays import ArraySubquery
from requests_app.domain.models.people import Group
from requests_app.domain.pasted import Pasted

Row = TypeVar("Row", bound=models.Model)

MOST_WORDS = 5
# How many words are looked for that may be mistyped, and how like a name has to be: `paymnets` is 0.44 like `payments`.
MOST_ALIKE = 3
LIKE_ENOUGH = 0.4
# Their keys are read for a search; far more than there are in most organisations.
MOST_ACCOUNTS = 10_000
FEW_ACCOUNTS = 500
FIRST_ACCOUNTS = 100
# What the trigram indexes can find: three letters or digits on end.
_IN_INDEX = re.compile(r"[^\W_]{3}")
# As AWS has them.
MOST_TAGS = 50
LONGEST_TAG_KEY = 128
LONGEST_TAG_VALUE = 256
EXTERNAL_ID = r"\A[A-Za-z0-9_+=,.@:/-]{2,}\Z"
ENVIRONMENT = r"\A[a-z0-9][a-z0-9._-]*\Z"


def check_path(path: str) -> None:
    """Raises ValidationError unless Daypass takes a role under this path."""
    if wrong := arns.path_problem(path):
        raise ValidationError(wrong)


def check_role_name(name: str) -> None:
    """Raises ValidationError unless this is a role's name."""
    if wrong := arns.name_problem(name):
        raise ValidationError(wrong)


def check_tags(tags: Any) -> None:
    """Raises ValidationError unless they are a flat object of text by text, within what AWS allows."""
    if not isinstance(tags, dict) or not all(isinstance(value, str) for value in tags.values()):
        raise ValidationError("Tags are a name and a text each, and nothing deeper.")
    if len(tags) > MOST_TAGS:
        raise ValidationError(f"AWS knows {MOST_TAGS} tags on one thing, at most.")
    for key, value in tags.items():
        if not 0 < len(key) <= LONGEST_TAG_KEY or len(value) > LONGEST_TAG_VALUE:
            raise ValidationError(
                f"A tag's name has 1 to {LONGEST_TAG_KEY} characters and its value {LONGEST_TAG_VALUE} at most."
            )


class OrganisationalUnitQuerySet(models.QuerySet["OrganisationalUnit"]):
    def with_place(self) -> "OrganisationalUnitQuerySet":
        """Each called by its whole place, such as Root / Workloads / Prod."""
        whole = ExpressionWrapper(OuterRef("path"), output_field=models.TextField())
        above = OrganisationalUnit.objects.alias(whole=whole).filter(whole__startswith=F("path"))
        names = ArraySubquery(above.order_by("path").values("name"))
        return self.annotate(
            place=Func(names, Value(" / "), function="array_to_string", output_field=models.TextField())
        )

    def lock_tree(self) -> None:
        """No unit is made or moved by others until this transaction is over. The guards of a unit wait likewise."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(x'756E697473'::bigint)")

    def below(self, units: "Iterable[OrganisationalUnit]") -> dict[int, list[int]]:
        """For each of these the keys of all that is below it, its own included. One query."""
        paths = {unit.pk: unit.path for unit in units}
        found: dict[int, list[int]] = {key: [] for key in paths}
        anywhere = Q(*(Q(path__startswith=path) for path in paths.values()), _connector=Q.OR)
        for key, path in self.filter(anywhere).order_by("path").values_list("pk", "path") if paths else ():
            for above in keys_in(path) & paths.keys():
                found[above].append(key)
        return found


class OrganisationalUnit(models.Model):
    """A place in the tree of accounts. What is said of a unit is said of everything below it."""

    name = models.CharField(max_length=128)
    parent = models.ForeignKey("self", models.PROTECT, null=True, blank=True, related_name="children")
    # Such as /3/17/: the keys from the root down to this one. The database keeps it, also when a unit is moved.
    # By bytes, so that in its order each unit is followed by all that is below it, and the index finds them.
    path = models.TextField(editable=False, default="", db_default="", db_collation="C")
    place: str  # where it was asked for `with_place`

    objects = OrganisationalUnitQuerySet.as_manager()

    class Meta:
        verbose_name = "unit"
        verbose_name_plural = "organisational units"
        constraints = [
            models.UniqueConstraint(
                Lower("name"),
                "parent",
                name="unit_name_unique_in_parent",
                nulls_distinct=False,
                violation_error_message="There is a unit of this name at this place.",
            ),
        ]
        indexes = [models.Index(fields=["path"], name="unit_by_path")]

    def __str__(self) -> str:
        return getattr(self, "place", self.name)

    @property
    def depth(self) -> int:
        return self.path.count("/") - 2


def keys_in(path: str) -> frozenset[int]:
    """Those of the unit with this path and of all above it."""
    return frozenset(int(key) for key in path.split("/") if key)


class AccountQuerySet(models.QuerySet["Account"]):
    def first_with_roles(self, most: int, *, among: Collection[Q | Exists], after: str = "") -> "list[Account]":
        """Those in use with a role in use for which one of `among` holds: the first few by name, beyond `after`."""
        beyond = self.filter(is_active=True, name__gt=after).order_by("name")
        if not among:
            return []
        # Mostly there are enough in the first accounts already, or no others.
        first = list(beyond.values_list("pk", flat=True)[:FIRST_ACCOUNTS])
        roles = Role.objects.filter(is_active=True)
        soon = roles.filter(Q(*among, _connector=Q.OR), account__in=first)
        keys = {*soon.order_by().values_list("account", flat=True).distinct()}
        if len(keys) < most and len(first) == FIRST_ACCOUNTS:
            for question in among:
                keys |= self._anywhere(roles.filter(question), question, beyond, most)
        return list(beyond.filter(pk__in=keys)[:most])

    def _anywhere(self, found: "RoleQuerySet", question: Q | Exists, beyond: "AccountQuerySet", most: int) -> set[int]:
        if isinstance(question, Q) and not isinstance(question, Scattered):  # of the account alone: by its own indexes
            of_account = beyond.filter(Exists(found.filter(account=OuterRef("pk"))))
            return {*of_account.values_list("pk", flat=True)[:most]}
        # As in `RoleQuerySet._first`: these are few, and must not be looked for account by account.
        inside, values = found.order_by().values_list("account").query.sql_with_params()
        with connection.cursor() as cursor:
            fenced = f"SELECT DISTINCT account FROM ({inside} OFFSET 0) AS found (account)"  # noqa: S608 - values are bound
            cursor.execute(fenced, values)
            return {key for (key,) in cursor.fetchall()}


class Account(models.Model):
    class ConsoleAuthorization(models.TextChoices):
        UNKNOWN = "", "not known"
        OFF = "off"
        ON = "on"

    partition = models.CharField(max_length=16, choices=[(name, name) for name in partitions.PARTITIONS], default="aws")
    number = models.CharField(
        "account id",
        max_length=12,
        validators=[RegexValidator(r"\A[0-9]{12}\Z", "An account id has 12 digits.")],
    )
    name = models.CharField(max_length=100)
    is_active = models.BooleanField(default=True)
    # Configuration, not a secret: anyone who may read the role sees it. It stops the confused deputy.
    external_id = models.CharField(
        max_length=1224,
        blank=True,
        validators=[
            RegexValidator(EXTERNAL_ID, "As STS takes it: 2 characters or more, letters, digits and _+=,.@:/-.")
        ],
    )
    allows_source_identity = models.BooleanField(
        default=False, help_text="The trust policies here allow sts:SetSourceIdentity for Daypass."
    )
    # What a preflight last read: AWS asks whoever signs in to the console of such an account for more.
    console_authorization = models.CharField(
        max_length=3, choices=ConsoleAuthorization.choices, blank=True, editable=False, default="", db_default=""
    )
    unit = models.ForeignKey(OrganisationalUnit, models.PROTECT, null=True, blank=True, related_name="accounts")
    environment = models.CharField(
        max_length=32,
        blank=True,
        db_default="",
        validators=[RegexValidator(ENVIRONMENT, "Lower case, such as prod or staging-eu.")],
        help_text="Such as prod or staging.",
    )
    region = models.CharField(
        max_length=25,
        blank=True,
        default="",  # of its own: what the database would fill in is no text yet when a form is looked at
        db_default="",
        help_text="Where people mostly work in it, such as eu-central-1: copied along with keys for it. Left empty, "
        "whoever uses keys keeps the region they have.",
    )
    tags = models.JSONField(default=dict, blank=True, db_default={}, validators=[check_tags])
    owners = models.ForeignKey(
        Group,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="owned_accounts",
        help_text="Whom to ask about it. A stage can leave the decision to them.",
    )

    objects = AccountQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["partition", "number"], name="account_number_unique"),
            models.UniqueConstraint(Lower("name"), name="account_name_unique"),
            models.CheckConstraint(condition=Q(number__regex=r"^[0-9]{12}$"), name="account_number_12_digits"),
            models.CheckConstraint(
                condition=Q(environment="") | Q(environment__regex=ENVIRONMENT), name="account_environment_lower_case"
            ),
            models.CheckConstraint(
                condition=Q(region="") | Q(region__regex=r"^[a-z0-9-]+$"), name="account_region_as_aws_writes_it"
            ),
            models.CheckConstraint(
                condition=Q(console_authorization__in=["", "off", "on"]), name="account_console_authorization_known"
            ),
        ]
        indexes = [
            # Roles are listed by their account's name: the first few are found without sorting them all.
            models.Index(fields=["name"], name="account_by_name"),
            # People find a role by typing any part of a name: `icontains` compares upper case.
            GinIndex(OpClass(Upper("name"), name="gin_trgm_ops"), name="account_name_search"),
            models.Index(fields=["environment"], name="account_by_environment"),
            GinIndex(fields=["tags"], name="account_tags"),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.grouped_number})"

    def clean(self) -> None:
        if self.region:
            try:
                partitions.check_region(self.region, self.partition)
            except ValueError as wrong:
                raise ValidationError({"region": str(wrong)}) from wrong

    @property
    def region_of_keys(self) -> str:
        """What is set along with keys: the account's own, or where anything else would lead out of the partition, that
        of the partition; "" leaves it to whoever uses them."""
        return self.region or ("" if self.partition == "aws" else partitions.region(self.partition))

    @property
    def grouped_number(self) -> str:
        return "-".join((self.number[:4], self.number[4:8], self.number[8:]))


class Scattered(Q):
    """A question to the roles about their names or tags, which an index answers, and whose answers are few of all.

    How many is guessed badly, and how they fall together with what is searched for not at all: where the database goes
    through the roles in the order of names until it has enough, it may read every one of them for the few there are.
    """


class RoleQuerySet(models.QuerySet["Role"]):
    def alike(self, role: "Role") -> "RoleQuerySet":
        """The rows for a role of this name in this account, whatever the path and the case; itself among them."""
        return self.alias(lower=Lower("name")).filter(lower=role.name.lower(), account=role.account_id)

    def first_matching(self, words: str, most: int, *, among: Collection[Q | Exists] = (Q(),)) -> "RoleQuerySet":
        """Those whose name or description, or whose account's name or number, has every word somewhere, in any case:
        the first few by the names of account and role. Only those for which one of `among` holds.
        """
        return self._first_of(ways_to_match(words), most, among)

    def first_named(self, named: Pasted, most: int, *, among: Collection[Q | Exists] = (Q(),)) -> "RoleQuerySet":
        """As `first_matching`, those that were named: one, or where only an account was, its first few."""
        return self._first_of([is_named(named)], most, among)

    def first_like(self, words: str, most: int, *, among: Collection[Q | Exists] = (Q(),)) -> "list[Role]":
        """As `first_matching`, where words may also be only like a part of those names: the most alike first.

        For where nothing has the words: each way is found in full, by its index, before what is most alike is known.
        """
        alike = [word for word in words.split()[:MOST_ALIKE] if may_be_mistyped(word)]
        if not among or not alike:
            return []
        score = reduce(
            add, (Greatest(*(_likeness(word, name) for name in ("name", "account__name"))) for word in alike)
        )
        reached = self.filter(Q(*among, _connector=Q.OR)).annotate(score=score)
        found: dict[int, tuple[float, str, str]] = {}
        with _like_enough() as cursor:
            for way in ways_to_match(" ".join(words.split()[:MOST_ALIKE]), like=True):
                of_way = reached.filter(way).order_by().values_list("pk", "score", "account__name", "name")
                inside, values = of_way.query.sql_with_params()
                cursor.execute(
                    f"SELECT * FROM ({inside} OFFSET 0) AS found (id, score, account, name) "  # noqa: S608 - values are bound
                    "ORDER BY score DESC, account, name LIMIT %s",
                    (*values, most),
                )
                found |= {key: (-likeness, account, name) for key, likeness, account, name in cursor.fetchall()}
        first = sorted(found, key=found.__getitem__)[:most]
        return sorted(self.filter(pk__in=first), key=lambda role: first.index(role.pk))

    def _first_of(self, ways: Sequence[Q], most: int, among: Collection[Q | Exists]) -> "RoleQuerySet":
        if not among:
            return self.none()
        # Each way by itself, because each is found by other indexes: asked for all at once, the database may read
        # role after role in the order of names until it has found enough.
        order = ("account__name", "name")
        found = [self._first(question, way, order, most) for question in among for way in ways]
        first, *others = [one.values("pk") for one in found]
        return self.filter(pk__in=first.union(*others)).order_by(*order)[:most]

    def first_of_each(self, accounts: "Collection[Account]", most: int) -> "RoleQuerySet":
        """The first few of each of these accounts by name; `of_account` is how many it has."""
        rank = Window(RowNumber(), partition_by="account", order_by="name")
        number = Window(Count("pk"), partition_by="account")
        ranked = self.filter(account__in=accounts).annotate(rank=rank, of_account=number)
        return ranked.filter(rank__lte=most).order_by("account__name", "name")

    def _first(self, question: Q | Exists, way: Q, order: tuple[str, ...], most: int) -> "RoleQuerySet":
        found = self.filter(question).filter(way)
        if not isinstance(question, Scattered):
            return found.order_by(*order)[:most]
        # Mostly there are enough in the first accounts already.
        beyond = Account.objects.order_by("name").values("name")[FIRST_ACCOUNTS : FIRST_ACCOUNTS + 1]
        soon = found.filter(account__name__lt=Subquery(beyond)).order_by(*order).values_list("pk", flat=True)[:most]
        if len(keys := list(soon)) == most:
            return Role.objects.filter(pk__in=keys)
        # OFFSET is a fence: what is inside is found in full, by its own indexes, and only then put in order.
        inside, values = found.order_by().values_list("pk", *order).query.sql_with_params()
        fenced = f"SELECT id FROM ({inside} OFFSET 0) AS found (id, account, name) ORDER BY account, name LIMIT %s"  # noqa: S608 - its values are bound
        return Role.objects.filter(pk__in=RawSQL(fenced, (*values, most)))  # noqa: S611


class Role(models.Model):
    class Power(models.TextChoices):
        READ = "read", "reads only"
        CHANGE = "change", "changes things"
        POWERFUL = "powerful", "powerful"

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    account = models.ForeignKey(Account, models.PROTECT, db_index=False, related_name="roles")
    path = models.CharField(max_length=arns.LONGEST_PATH, default="/elevated/", validators=[check_path])
    name = models.CharField(max_length=64, validators=[check_role_name])
    description = models.CharField(max_length=300, blank=True)
    power = models.CharField(max_length=8, choices=Power.choices, default=Power.CHANGE)
    longest_session_seconds = models.PositiveIntegerField(
        default=3600,
        validators=[MinValueValidator(3600), MaxValueValidator(43200)],
        help_text="The role's MaxSessionDuration in IAM.",
    )
    identity_is_access = models.BooleanField(
        default=False,
        help_text="EKS, Vault and the like take sts:GetCallerIdentity as proof, which cannot be denied: "
        "minted only while at least 15 minutes of the pass remain.",
    )
    is_active = models.BooleanField(default=True)
    tags = models.JSONField(default=dict, blank=True, db_default={}, validators=[check_tags])
    owners = models.ForeignKey(
        Group,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="owned_roles",
        help_text="Whom to ask about it, where that is not the account's owners.",
    )

    objects = RoleQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["account", "path", "name"],
                name="role_arn_unique",
                violation_error_message="This role is in the catalog already.",
            ),
            # IAM's names are unique in an account whatever the path and the case: of those that are alike at most one
            # stands for what there is at AWS. The others were entered wrongly, or are gone.
            models.UniqueConstraint(
                Lower("name"),
                "account",
                condition=Q(is_active=True),
                name="role_name_unique_in_use",
                violation_error_message="A role of this name is in use in this account.",
            ),
            models.CheckConstraint(
                condition=Q(longest_session_seconds__gte=3600, longest_session_seconds__lte=43200),
                name="role_longest_session_as_iam",
            ),
        ]
        indexes = [
            models.Index(fields=["account", "name"], name="role_by_account"),
            models.Index(Lower("name"), "account", name="role_by_name_in_account"),
            GinIndex(OpClass(Upper("name"), name="gin_trgm_ops"), name="role_name_search"),
            GinIndex(OpClass(Upper("description"), name="gin_trgm_ops"), name="role_description_search"),
            # Finds a tag with its value and a tag with any value; jsonb_path_ops would find only the first.
            GinIndex(fields=["tags"], name="role_tags"),
            # What the admin filters by.
            models.Index(fields=["power"], name="role_by_power"),
            models.Index(fields=["account", "name"], condition=Q(is_active=False), name="role_out_of_use"),
            models.Index(fields=["account", "name"], condition=Q(identity_is_access=True), name="role_identity"),
        ]

    def __str__(self) -> str:
        return f"{self.name} in {self.account.name}"

    @property
    def profile(self) -> str:
        """What keys for it are called in people's AWS files: by the names of account and role, to be typed."""
        return slugify(f"{slugify(self.account.name) or self.account.number}-{self.name}")

    @property
    def arn(self) -> str:
        return f"arn:{self.account.partition}:iam::{self.account.number}:role{self.path}{self.name}"

    @property
    def is_addressable(self) -> bool:
        """Whether its ARN can stand in the policies of its sessions. What was entered before that was asked may not."""
        return bool(arns.ROLE_ARN.fullmatch(self.arn))

    @property
    def is_powerful(self) -> bool:
        return self.power == self.Power.POWERFUL

    @property
    def can_be_used(self) -> bool:
        return self.is_active and self.account.is_active


def may_be_mistyped(word: str) -> bool:
    """Whether what is like this word means anything: of three letters nearly everything is."""
    return len(word) > 3 and bool(_IN_INDEX.search(word))


def most_alike(among: models.QuerySet[Row], words: str, most: int, *names: str) -> list[Row]:
    """Those that for each word have something like it in one of these fields; the first few, the most alike first."""
    each = words.split()[:MOST_ALIKE]
    if not any(map(may_be_mistyped, each)):
        return []
    for word in each:
        has = (_resembles(word, name) | Q(**{f"{name}__icontains": word}) for name in names)
        among = among.filter(reduce(or_, has))
    score = reduce(add, (_likeness(word, name) for word in each for name in names))
    with _like_enough():
        return list(among.alias(score=score).order_by("-score", *names)[:most])


@contextmanager
def _like_enough() -> Iterator[Any]:
    """Within, what is compared is alike by our own measure."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT set_config('pg_trgm.word_similarity_threshold', %s, true)", [str(LIKE_ENOUGH)])
        yield cursor


class _Resembles(Lookup):
    """Whether a part of the left is like the right one, more than `pg_trgm.word_similarity_threshold`."""

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        left, left_values = self.process_lhs(compiler, connection)
        right, right_values = self.process_rhs(compiler, connection)
        return f"{left} %%> {right}", (*left_values, *right_values)


def _likeness(word: str, path: str) -> Func:
    return Func(Upper(Value(word)), Upper(F(path)), function="word_similarity", output_field=models.FloatField())


def _resembles(word: str, path: str) -> Q:
    return Q(_Resembles(Upper(F(path)), Upper(Value(word)))) if may_be_mistyped(word) else Q(pk__in=())


def ways_to_match(words: str, *, like: bool = False) -> list[Q]:
    """How a role can have all the words: by itself, or some of them by its account, for each such set there is. With
    `like` a name is enough that is only like a word.

    Where all words are too short for the index, they stand at the beginning of the role's name or in the account.
    Put like this each way has an index. Asked word by word, "in the account or in the role", the database would
    have to read every role.
    """
    wanted = words.split()[:MOST_WORDS]
    if not wanted:
        return [Q()]
    leading = [word for word in wanted if _IN_INDEX.search(word)]
    by_itself = [_role_has(word, like) for word in leading] or [Q(name__istartswith=word) for word in wanted]
    ways = [reduce(and_, by_itself), *_ways_by_account(leading or wanted, like)]
    # The short ones beside longer ones find nothing; they only narrow what those find.
    narrowing = [_role_has(word) | account_has(word, "account__") for word in wanted if leading and word not in leading]
    return [reduce(and_, narrowing, way) for way in ways]


def is_named(named: Pasted, path: str = "") -> Q:
    """A role, or any of an account, by what was pasted; in any case, as IAM has names, and whatever its path: a name is
    one role's in an account, and not everything that names a role says its path. `path` leads to the role."""
    is_it = account_is_named(named, f"{path}account__")
    return is_it & Q(**{f"{path}name__iexact": named.role}) if named.role else is_it


def account_is_named(named: Pasted, path: str = "") -> Q:
    """The account of what was pasted. `path` leads to it, such as `account__`."""
    if named.number:
        # Both are the index's columns.
        among = [named.partition] if named.partition else [*partitions.PARTITIONS]
        return Q(**{f"{path}partition__in": among, f"{path}number": named.number})
    is_it = Q(**{f"{path}name__iexact": named.account}) if named.account else Q()
    return is_it & Q(**{f"{path}partition": named.partition}) if named.partition else is_it


def account_has(word: str, path: str = "", *, like: bool = False) -> Q:
    """`path` leads to the account, such as `account__`."""
    # People type a number as the console shows it: 1234-5678-9012.
    digits = word.replace("-", "")
    has = Q(**{f"{path}name__icontains": word})
    if like:
        has |= _resembles(word, f"{path}name")
    return has | Q(**{f"{path}number__contains": digits}) if digits.isascii() and digits.isdigit() else has


def _role_has(word: str, like: bool = False) -> Q:
    has = Q(name__icontains=word) | Q(description__icontains=word)
    return has | _resembles(word, "name") if like else has


def _ways_by_account(words: list[str], like: bool) -> Iterator[Q]:
    for which, accounts in _accounts_having(words, like).items():
        # The words lead from the accounts, the keys of a few from the roles: the database may begin at either end.
        way = Q(account__in=accounts) if len(accounts) <= FEW_ACCOUNTS else Q()
        for word, in_account in zip(words, which, strict=True):
            way &= account_has(word, "account__", like=like) if in_account else _role_has(word, like)
        yield way


def _accounts_having(words: list[str], like: bool) -> dict[tuple[bool, ...], list[int]]:
    """Accounts that have at least one of the words, by which of them they have."""
    has = [account_has(word, like=like) for word in words]
    told = {f"has_{number}": ExpressionWrapper(question, models.BooleanField()) for number, question in enumerate(has)}
    found: dict[tuple[bool, ...], list[int]] = defaultdict(list)
    rows = Account.objects.filter(reduce(or_, has)).annotate(**told).values_list("pk", *told)
    for account, *which in rows[:MOST_ACCOUNTS]:
        found[tuple(which)].append(account)
    return found
