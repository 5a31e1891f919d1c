"""AWS's separate worlds: where each signs people in, and which addresses are its console."""

import re
from dataclasses import dataclass

from django.conf import settings

LONGEST_DESTINATION = 2000  # a query of CloudWatch Logs Insights stands in its address whole
_LOOPBACK = {"127.0.0.1", "localhost", "[::1]"}
_FEDERATION_URL = re.compile(
    r"(?P<origin>(?P<scheme>https?)://(?P<host>[a-z0-9.-]+|\[[0-9a-f:]+\])(:\d{1,5})?)(/[\w./~-]*)?", re.ASCII
)


@dataclass(frozen=True)
class Partition:
    """One partition; `sign_in` and `console` are the domains it owns for these jobs.

    `elsewhere`: hosts of AWS consoles outside of `console`; those in `regional` have one for each region before them.
    """

    name: str
    sign_in: str
    console: str
    sts_region: str
    elsewhere: tuple[str, ...] = ()
    regional: tuple[str, ...] = ()


PARTITIONS = {
    partition.name: partition
    for partition in (
        Partition(
            "aws", "signin.aws.amazon.com", "console.aws.amazon.com", "us-east-1",
            elsewhere=(
                "health.aws.amazon.com", "phd.aws.amazon.com", "lightsail.aws.amazon.com", "quicksight.aws.amazon.com"
            ),
            regional=("quicksight.aws.amazon.com",),
        ),
        Partition(
            "aws-us-gov", "signin.amazonaws-us-gov.com", "console.amazonaws-us-gov.com", "us-gov-west-1",
            elsewhere=("health.amazonaws-us-gov.com", "phd.amazonaws-us-gov.com"),
        ),
        Partition(
            "aws-cn", "signin.amazonaws.cn", "console.amazonaws.cn", "cn-north-1",
            elsewhere=("health.amazonaws.cn", "phd.amazonaws.cn"),
        ),
    )
}  # fmt: skip
# Consoles that have a name of their own before the console's, in every partition.
_SERVICES = ("s3", "support", "health", "phd", "resource-explorer")
REGION = r"[a-z]{2}(?:-[a-z]+)+-\d{1,2}"
# Where several are signed in at once, AWS puts the session before the host: `account-letters.region.console…`.
_SESSION = re.compile(rf"\d{{12}}-[a-z0-9]{{1,40}}\.(?={REGION}\.)", re.ASCII)


def sts_region(partition: str) -> str:
    """The region whose STS endpoint serves this partition unless an operator chose another."""
    return _known(partition).sts_region


def region(partition: str) -> str:
    """Where STS is asked for this partition: in `aws` as an operator chose, elsewhere the partition's own region."""
    own = sts_region(partition)
    return settings.AWS_STS_REGION if partition == "aws" else own


def regions() -> dict[str, str]:
    """The region of each partition."""
    return {partition: region(partition) for partition in PARTITIONS}


def check_region(name: str, partition: str) -> str:
    """`name` if it is a region of this partition. Raises ValueError with a sentence."""
    prefixes = {"aws-us-gov": "us-gov-", "aws-cn": "cn-"}
    prefix = prefixes.get(partition, "")
    elsewhere = tuple(other for other in prefixes.values() if other != prefix)
    if not _is_region(name) or not name.startswith(prefix) or name.startswith(elsewhere):
        raise ValueError(f"Give a region of {partition} as AWS writes it, such as {sts_region(partition)}.")
    return name


def federation_url(partition: str, override: str | None = None) -> str:
    """The sign-in federation endpoint. Raises ValueError on an unknown partition or an unsafe override."""
    if override:
        return _read_federation_url(override)[0]
    return f"https://{_known(partition).sign_in}/federation"


def form_action_origins(override: str | None = None) -> list[str]:
    """Where a page of ours may send the sign-in form, as sources for the `form-action` directive.

    Browsers hold every redirect that follows the form to the same list, and AWS sends people on
    from its sign-in hosts to its console hosts: hence both, with their regional subdomains.
    """
    every = PARTITIONS.values()
    domains = [domain for known in every for domain in (known.sign_in, known.console, *known.regional)]
    if override:
        endpoint = _read_federation_url(override)
        if not any(_is_within(endpoint["host"], known.sign_in) for known in PARTITIONS.values()):
            return [endpoint["origin"]]  # someone else's stand-in, which sends people nowhere else
    hosts = [host for domain in domains for host in (domain, f"*.{domain}")]
    hosts += [host for known in every for host in known.elsewhere]
    return [f"https://{host}" for host in dict.fromkeys(hosts)]


def console_home(partition: str) -> str:
    """The console's front page: the destination when nobody named another."""
    return f"https://{_known(partition).console}/"


def check_destination(url: str, partition: str) -> str:
    """`url` if it is a page of this partition's console: its host in lower case, without another session's name.

    Raises ValueError with a sentence for the person. Strict on purpose: what AWS and a browser
    might read differently (a backslash, a space, a port, a user name) is refused, never repaired.
    """
    home = console_home(partition)
    if len(url) > LONGEST_DESTINATION:
        raise ValueError(f"The destination is longer than {LONGEST_DESTINATION:,} characters.")
    if not re.fullmatch(r"[!-~]+", url) or re.search(r'[\\"<>^`{|}]', url):
        raise ValueError("The destination contains a space, a backslash or another character that no address may have.")
    if "://" not in url:
        raise ValueError(f"The destination is a whole address, with https:// before it, such as {home}")
    # Read by hand: urlsplit is generous, and a host and nothing else is all we accept before the path.
    match = re.fullmatch(r"https://([a-z0-9.-]+)([/?#].*)?", url, re.IGNORECASE)
    host = _without_session(match[1].lower(), partition) if match else ""
    if not match or not _is_console_host(host, partition):
        raise ValueError(
            f"The destination must be a page of the AWS console, such as {home} Its host is none of the console's that "
            "Daypass knows."
        )
    return f"https://{host}{match[2] or '/'}"


def _without_session(host: str, partition: str) -> str:
    """The session in a copied address is another one, if not somebody else's; AWS gives this one its own."""
    return _SESSION.sub("", host, count=1) if host.endswith(f".{_known(partition).console}") else host


def _is_console_host(host: str, partition: str) -> bool:
    """The console itself, one region's or one service's, and the few that AWS has elsewhere."""
    known = _known(partition)
    if host in known.elsewhere or (host.partition(".")[2] in known.regional and _is_region(host.partition(".")[0])):
        return True
    before = host.removesuffix(known.console)
    return before + known.console == host and (
        not before or (before.endswith(".") and (before[:-1] in _SERVICES or _is_region(before[:-1])))
    )


def _is_region(name: str) -> bool:
    return re.fullmatch(REGION, name, re.ASCII) is not None


def _is_within(host: str, domain: str) -> bool:
    return host == domain or host.endswith(f".{domain}")


def _read_federation_url(url: str) -> re.Match[str]:
    endpoint = _FEDERATION_URL.fullmatch(url)
    if not endpoint:
        raise ValueError("The federation endpoint must be a plain address: https, a host and a path.")
    if endpoint["scheme"] != "https" and endpoint["host"] not in _LOOPBACK:
        raise ValueError("The federation endpoint must use https; plain http is only for this machine itself.")
    return endpoint


def _known(partition: str) -> Partition:
    try:
        return PARTITIONS[partition]
    except KeyError:
        raise ValueError(f"Unknown AWS partition: {partition!r}") from None
