"""How AWS names a role, and the one alphabet in which Daypass takes that: typed, stored, sent, and named in policies.

IAM allows nearly every printable character in a path. In a policy `*` and `?` stand for any text and `${` begins a
variable: a deny of a role under `/a*b/` would meet other roles, or none. So a path may have what names may have.
"""

import re
from typing import NamedTuple

# The database has these once more, in `requests_app_is_role_address`.
CHARACTERS = r"A-Za-z0-9_+=,.@-"
PATH = rf"/(?:[/{CHARACTERS}]+/)?"
NAME = rf"[{CHARACTERS}]{{1,64}}"
LONGEST_PATH = 512

ROLE_ARN = re.compile(
    rf"arn:(?P<partition>aws[a-z-]*):iam::(?P<account>\d{{12}}):role(?P<path>{PATH})(?P<name>[{CHARACTERS}]+)",
    re.ASCII,
)
POLICY_ARN = re.compile(
    rf"arn:(?P<partition>aws[a-z-]*):iam::(?P<account>\d{{12}}|aws):policy/[/{CHARACTERS}]+", re.ASCII
)

IN_WORDS = "letters, digits and _ + = , . @ -"


class RoleName(NamedTuple):
    """What makes a role's ARN."""

    partition: str
    account: str
    path: str
    name: str


def split(typed: str) -> RoleName:
    """The parts of a role's ARN as somebody pasted it. Raises ValueError, with a sentence for the person."""
    arn = typed.strip().strip("\"'`,;").strip()
    if _SESSION.match(arn):
        raise ValueError(
            "This is the ARN of a session, which does not say the role's path. Copy the one on the role's page in IAM."
        )
    found = _ANY_ROLE_ARN.fullmatch(arn)
    if not found:
        raise ValueError(
            "This is not the ARN of a role. One looks like arn:aws:iam::123456789012:role/elevated/Administrator."
        )
    if wrong := path_problem(found["path"]) or name_problem(found["name"]):
        raise ValueError(wrong)
    return RoleName(*found.group("partition", "account", "path", "name"))


def path_problem(path: str) -> str:
    """Why Daypass takes no role under this path, as a sentence; empty where it does."""
    if len(path) > LONGEST_PATH:
        return f"A path has {LONGEST_PATH} characters at most."
    if re.fullmatch(PATH, path):
        return ""
    if others := _others(path.replace("/", "")):
        if re.search(r"[^!-~]", path):  # neither has IAM
            return f"Between its slashes a path may have {IN_WORDS}, and not {_listed(others)}."
        return (
            f"Between its slashes a path may have {IN_WORDS}. IAM allows more, but {_listed(others)} could mean "
            "something else in the policies of its sessions: the account's owner must make the role under another path."
        )
    return "A path begins and ends with a slash, such as /elevated/; a single slash is no path at all."


def name_problem(name: str) -> str:
    """Why this is no role's name, as a sentence; empty where it is one."""
    if re.fullmatch(NAME, name):
        return ""
    others = f", and not {_listed(_others(name))}" if _others(name) else ""
    return f"A role's name has 1 to 64 characters: {IN_WORDS}{others}."


def _others(text: str) -> list[str]:
    """Its characters that are not in the alphabet."""
    return sorted(set(re.findall(rf"[^{CHARACTERS}]", text)))


def _listed(characters: list[str]) -> str:
    """For a sentence."""
    words = ["a space" if c == " " else c if c.isprintable() else f"U+{ord(c):04X}" for c in characters]
    return f"{' '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]


_SESSION = re.compile(r"arn:aws[a-z-]*:sts::", re.ASCII)
_ANY_ROLE_ARN = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):iam::(?P<account>\d{12}):role(?P<path>/(?:.*/)?)(?P<name>[^/]+)", re.ASCII
)
