"""AWS's separate worlds: where each signs people in, and which addresses are its console."""

import re
from dataclasses import dataclass

from django.conf import settings

_LONGEST_DESTINATION = 2000
_LOOPBACK = {"127.0.0.1", "localhost", "[::1]"}
_FEDERATION_URL = re.compile(
    r"(?P<origin>(?P<scheme>https?)://(?P<host>[a-z0-9.-]+|\[[0-9a-f:]+\])(:\d{1,5})?)(/[\w./~-]*)?", re.ASCII
)


@dataclass(frozen=True)
class Partition:
    """One partition; `sign_in` and `console` are the domains it owns for these jobs."""

    name: str
    sign_in: str
    console: str
    sts_region: str


PARTITIONS = {
    partition.name: partition
    for partition in (
        Partition("aws", "signin.aws.amazon.com", "console.aws.amazon.com", "us-east-1"),
        Partition("aws-us-gov", "signin.amazonaws-us-gov.com", "console.amazonaws-us-gov.com", "us-gov-west-1"),
        Partition("aws-cn", "signin.amazonaws.cn", "console.amazonaws.cn", "cn-north-1"),
    )
}


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
    domains = [domain for known in PARTITIONS.values() for domain in (known.sign_in, known.console)]
    if override:
        endpoint = _read_federation_url(override)
        if not any(_is_within(endpoint["host"], known.sign_in) for known in PARTITIONS.values()):
            return [endpoint["origin"]]  # someone else's stand-in, which sends people nowhere else
    return [f"https://{host}" for domain in domains for host in (domain, f"*.{domain}")]


def console_home(partition: str) -> str:
    """The console's front page: the destination when nobody named another."""
    return f"https://{_known(partition).console}/"


def check_destination(url: str, partition: str) -> str:
    """`url` if it is a page of this partition's console, with its host in lower case.

    Raises ValueError with a sentence for the person. Strict on purpose: what AWS and a browser
    might read differently (a backslash, a space, a port, a user name) is refused, never repaired.
    """
    home = console_home(partition)
    if len(url) > _LONGEST_DESTINATION:
        raise ValueError(f"The destination is longer than {_LONGEST_DESTINATION:,} characters.")
    if not re.fullmatch(r"[!-~]+", url) or re.search(r'[\\"<>^`{|}]', url):
        raise ValueError("The destination contains a space, a backslash or another character that no address may have.")
    if "://" not in url:
        raise ValueError(f"The destination is a whole address, with https:// before it, such as {home}")
    # Read by hand: urlsplit is generous, and a host and nothing else is all we accept before the path.
    match = re.fullmatch(r"https://([a-z0-9.-]+)([/?#].*)?", url, re.IGNORECASE)
    if not match or not _is_console_host(match[1].lower(), partition):
        raise ValueError(f"The destination must be a page of the AWS console, such as {home}")
    return f"https://{match[1].lower()}{match[2] or '/'}"


def _is_console_host(host: str, partition: str) -> bool:
    """The console itself, one region's, or one session's where several are signed in at once."""
    region, session = r"[a-z]{2}(-[a-z]+)+-\d{1,2}", r"\d{12}-[a-z0-9]{1,40}"
    pattern = rf"(({session}\.)?{region}\.)?{re.escape(_known(partition).console)}"
    return re.fullmatch(pattern, host, re.ASCII) is not None


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
