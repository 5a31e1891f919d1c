"""What people paste into a search box: how AWS, its console and its tools name a role, a session or an account."""

import re
import unicodedata
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from requests_app.domain import partitions
from requests_app.domain.arns import CHARACTERS, NAME
from requests_app.domain.codes import ALPHABET

# A message of AWS with two ARNs and a switch-role link fit; what is longer is cut.
LONGEST = 2000
LONGEST_WORDS = 200


class Pasted(NamedTuple):
    """A role, an account or both; empty where it was not said. Nothing here tells whether there is such a thing."""

    role: str = ""
    # The account by its number, or by its name or alias.
    number: str = ""
    account: str = ""
    # Where the ARN or the address says it.
    partition: str = ""
    # Of the ARN of a session.
    session: str = ""
    # Whether it can be nothing else. `read/write` may be a role in an account, or two words.
    certain: bool = True

    def __str__(self) -> str:
        account = "-".join((self.number[:4], self.number[4:8], self.number[8:])) if self.number else self.account
        where = f"account {account}" if account else ""
        if self.partition not in ("", "aws"):
            where += f" of {self.partition}"
        return " in ".join(filter(None, (f"role {self.role}" if self.role else "", where)))


def cleaned(typed: str) -> str:
    """Without what copying leaves: quotes and commas around it, spaces of other kinds, characters that nobody sees."""
    text = unicodedata.normalize("NFKC", typed[:LONGEST]).translate(_DASHES)
    text = "".join(c for c in text if c.isspace() or unicodedata.category(c)[0] != "C")
    return " ".join(text.split()).strip(" \"'`“”„‘’«»<>,;")


def understood(typed: str) -> Pasted | None:
    """What was named; None for plain words."""
    text = cleaned(typed)
    if "://" in text and (found := _in_address(text)):
        return found
    return _in_arn(text) or _in_short(text)


def words(typed: str) -> str:
    """To be searched for word by word, as far as people type; a role in an account as the two."""
    text = cleaned(typed)[:LONGEST_WORDS]
    named = understood(text)
    return text if named is None or named.certain else f"{named.account} {named.role}"


def code_in(typed: str) -> str:
    """The code of a request where it is one, the address of a page about one, or the name of a session; or ""."""
    text = cleaned(typed).upper()
    found = _CODE.search(text) if "/" in text else _CODE.match(text)
    return found[0] if found else ""


_DASHES = {ord(dash): "-" for dash in "\u2010\u2011\u2012\u2013\u2014\u2212"}
_CODE = re.compile(rf"(?<![^/=])DP-[{ALPHABET}]{{8}}(?![{ALPHABET}])", re.ASCII)
_NUMBER = r"\d{4}[- ]?\d{4}[- ]?\d{4}"
_ALONE = re.compile(rf"(?:account:? ?)?({_NUMBER})", re.ASCII | re.IGNORECASE)
# 222222222222/Name, also with a path; 222222222222:role/Name as some tools have it.
_NUMBER_THEN_ROLE = re.compile(rf"({_NUMBER}) ?[/:] ?(?:role/)?(?:[{CHARACTERS}]+/)*({NAME})", re.ASCII | re.IGNORECASE)
# As the console shows who is signed in: Name/session @ 2222-2222-2222, or an alias.
_AT_ACCOUNT = re.compile(rf"({NAME})(?:/([{CHARACTERS}]+))? ?@ ?(?:({_NUMBER})|([a-z0-9-]{{3,63}}))", re.ASCII)
_ACCOUNT_THEN_ROLE = re.compile(rf"([^/]{{1,128}}?) ?/ ?({NAME})", re.ASCII)
_ARN = re.compile(
    rf"arn:(?P<partition>aws[a-z-]{{0,20}}):(?P<service>[a-z0-9-]+):[a-z0-9-]*:(?P<number>\d{{12}}):"
    rf"(?P<rest>[/:{CHARACTERS}]*)",
    re.ASCII,
)
_ROLE = re.compile(rf"role/(?:[{CHARACTERS}]+/)*({NAME})", re.ASCII)
_ASSUMED_ROLE = re.compile(rf"assumed-role/({NAME})(?:/([{CHARACTERS}]+))?", re.ASCII)
# A page of a role in IAM.
_IN_IAM = re.compile(rf"#/roles/(?:details/)?({NAME})(?:[?/]|$)", re.ASCII)
_SESSION_OF_ACCOUNT = re.compile(r"(\d{12})-[a-z0-9]+\.", re.ASCII)
_BEFORE_SIGN_IN = re.compile(r"(?:(\d{12})|(?![a-z]{2}(?:-[a-z]+)+-\d)([a-z0-9-]{3,63}))\.", re.ASCII)


def _in_arn(text: str) -> Pasted | None:
    """The role's where there are several, as in AWS's own refusals; else a session's; else whatever has an account."""
    whole = text.replace(" ", "") if text.lower().startswith("arn:") else text  # broken where a mail breaks lines
    best: tuple[int, Pasted] | None = None
    for arn in list(_ARN.finditer(whole))[:20]:
        rest = arn["rest"] if arn.end() == len(whole) and arn.start() == 0 else arn["rest"].rstrip(".,:")
        named = Pasted(number=arn["number"], partition=arn["partition"])
        rank = 2
        if arn["service"] == "iam" and (role := _ROLE.fullmatch(rest)):
            rank, named = 0, named._replace(role=role[1])
        elif arn["service"] == "sts" and (assumed := _ASSUMED_ROLE.fullmatch(rest)):
            rank, named = 1, named._replace(role=assumed[1], session=assumed[2] or "")
        if best is None or rank < best[0]:
            best = rank, named
    return best[1] if best else None


def _in_short(text: str) -> Pasted | None:
    if alone := _ALONE.fullmatch(text):
        return Pasted(number=_digits(alone[1]))
    if found := _NUMBER_THEN_ROLE.fullmatch(text):
        return Pasted(role=found[2], number=_digits(found[1]))
    if found := _AT_ACCOUNT.fullmatch(text):
        name, session, number, alias = found.groups(default="")
        certain = bool(session or number)  # else it may be an address of somebody
        return Pasted(name, _digits(number), alias, session=session, certain=certain)
    if found := _ACCOUNT_THEN_ROLE.fullmatch(text):
        return Pasted(role=found[2], account=found[1], certain=False)
    return None


def _in_address(text: str) -> Pasted | None:
    """A link for switching roles, a page of the console or of the access portal. Hosts are not judged: nothing is
    opened."""
    address = next(word for word in text.split() if "://" in word)
    try:
        parts = urlsplit(address.rstrip(".,;\"'<>)"))
        host = (parts.hostname or "").lower()
        said = parse_qs(f"{parts.query}&{parts.fragment.partition('?')[2]}", max_num_fields=50)
    except ValueError:
        return None
    partition, before = _partition_of(host)
    by_name = {name.lower().replace("_", ""): values[-1].strip() for name, values in said.items()}
    role = by_name.get("rolename", "").rpartition("/")[2]
    account = by_name.get("account") or by_name.get("accountid") or ""
    if not account and (session := _SESSION_OF_ACCOUNT.match(before)):
        account = session[1]
    if not account and host.endswith(tuple(known.sign_in for known in partitions.PARTITIONS.values())):
        of_sign_in = _BEFORE_SIGN_IN.fullmatch(before)
        account = (of_sign_in[1] or of_sign_in[2]) if of_sign_in else ""
    if not role and partition and (in_iam := _IN_IAM.search(unquote(address))):
        role = in_iam[1]
    if not (role or account) or (role and not re.fullmatch(NAME, role)):
        return _in_arn(unquote(address))
    digits = _digits(account)
    number = digits if re.fullmatch(r"\d{12}", digits, re.ASCII) else ""
    return Pasted(role, number, "" if number else account[:128], partition)


def _partition_of(host: str) -> tuple[str, str]:
    """Whose sign-in or console this is, and what stands before it; both empty for every other host."""
    for known in partitions.PARTITIONS.values():
        for domain in (known.sign_in, known.console):
            if host == domain or host.endswith(f".{domain}"):
                return known.name, host.removesuffix(domain)
    return "", ""


def _digits(number: str) -> str:
    return number.replace("-", "").replace(" ", "")
