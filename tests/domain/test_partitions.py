import re
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from requests_app.domain import partitions
from requests_app.domain.partitions import check_destination, federation_url, form_action_origins

GOOD = [
    ("https://console.aws.amazon.com/", "aws"),
    ("https://console.aws.amazon.com/s3/buckets?region=eu-west-1", "aws"),
    ("https://eu-west-1.console.aws.amazon.com/ec2/home?region=eu-west-1#Instances:state=running", "aws"),
    ("https://ap-southeast-2.console.aws.amazon.com/", "aws"),
    ("https://s3.console.aws.amazon.com/s3/buckets/ledger?region=eu-west-1&tab=objects", "aws"),
    ("https://support.console.aws.amazon.com/support/home", "aws"),
    ("https://health.aws.amazon.com/health/home#/account/dashboard/open-issues", "aws"),
    ("https://phd.aws.amazon.com/phd/home", "aws"),
    ("https://lightsail.aws.amazon.com/ls/webapp/home/instances", "aws"),
    ("https://quicksight.aws.amazon.com/sn/start", "aws"),
    ("https://eu-central-1.quicksight.aws.amazon.com/sn/dashboards/x", "aws"),
    ("https://health.amazonaws-us-gov.com/health/home", "aws-us-gov"),
    ("https://phd.amazonaws.cn/phd/home", "aws-cn"),
    ("https://eu-west-1.console.aws.amazon.com/cloudwatch/home#logsV2:log-groups/log-group/$252Faws$252Fx", "aws"),
    ("https://us-gov-west-1.console.amazonaws-us-gov.com/ec2/home", "aws-us-gov"),
    ("https://console.amazonaws.cn/ec2/home", "aws-cn"),
    ("https://cn-north-1.console.amazonaws.cn/", "aws-cn"),
]

BAD = [
    "",
    "console.aws.amazon.com",
    "/ec2/home",
    "//console.aws.amazon.com/",
    "http://console.aws.amazon.com/",
    "ftp://console.aws.amazon.com/",
    "javascript:alert(1)//console.aws.amazon.com/",
    "https:console.aws.amazon.com/",
    "https:///console.aws.amazon.com/",
    "https://console.aws.amazon.com.evil.example/",
    "https://evil.example/console.aws.amazon.com",
    "https://evil.example#console.aws.amazon.com",
    "https://consolexaws.amazon.com/",
    "https://console.awsxamazon.com/",
    "https://evilconsole.aws.amazon.com/",
    "https://evil.console.aws.amazon.com.evil.example/",
    "https://evil.console.aws.amazon.com/",
    "https://a.eu-west-1.console.aws.amazon.com/",
    "https://222222222222-ab12cd34.console.aws.amazon.com/",
    "https://222222222222-ab12cd34.evil.console.aws.amazon.com/",
    "https://222222222222-ab12cd34.eu-west-1.health.aws.amazon.com/",
    "https://222222222222-ab12cd34.eu-west-1.222222222222-ab12cd34.eu-west-1.console.aws.amazon.com/",
    "https://s3.eu-west-1.console.aws.amazon.com/",
    "https://evil.health.aws.amazon.com/",
    "https://evilhealth.aws.amazon.com/",
    "https://evil.quicksight.aws.amazon.com/",
    "https://a.eu-west-1.quicksight.aws.amazon.com/",
    "https://.console.aws.amazon.com/",
    "https://s3console.aws.amazon.com/",
    "https://aws.amazon.com/console",
    "https://docs.aws.amazon.com/",
    "https://d-1234567890.awsapps.com/start",
    "https://payments.s3.eu-west-1.amazonaws.com/",
    "https://abc.lambda-url.eu-west-1.on.aws/",
    "https://eu-west-1.console.amazonaws.com/",
    "https://signin.aws.amazon.com/",
    "https://s3.amazonaws.com/",
    "https://console.aws.amazon.com./",
    "https://console.aws.amazon.com:443/",
    "https://console.aws.amazon.com:8443/",
    "https://console.aws.amazon.com:/",
    "https://user@console.aws.amazon.com/",
    "https://console.aws.amazon.com@evil.example/",
    "https://console.aws.amazon.com:pw@evil.example/",
    "https://console.aws.amazon.com%40evil.example/",
    "https://evil.example\\.console.aws.amazon.com/",
    "https://console.aws.amazon.com\\@evil.example/",
    "https:\\\\console.aws.amazon.com/",
    "https://console.aws.amazon.com\t.evil.example/",
    "https://console.aws.amazon.com/\r\nSet-Cookie: x=y",
    "https://console.aws.amazon.com/ a",
    "https://console.aws.amazon.com/\n",
    " https://console.aws.amazon.com/",
    "https://console。aws.amazon.com/",
    "https://ｃonsole.aws.amazon.com/",
    "https://console.aws.amazon.com/ü",
    'https://console.aws.amazon.com/"><script>',
    "https://console.aws.amazon.com/" + "a" * 2000,
    "https://[::1]/",
    "https://%63onsole.aws.amazon.com/",
]


@pytest.mark.parametrize(("url", "partition"), GOOD)
def test_a_page_of_the_console_is_taken_as_it_is(url, partition):
    assert check_destination(url, partition) == url


@pytest.mark.parametrize("url", BAD)
def test_anything_else_is_refused_with_a_sentence(url):
    with pytest.raises(ValueError, match=r"^The destination .+[./]$"):
        check_destination(url, "aws")


@pytest.mark.parametrize(("url", "partition"), GOOD)
def test_a_partition_is_not_another(url, partition):
    for other in set(partitions.PARTITIONS) - {partition}:
        with pytest.raises(ValueError, match="console"):
            check_destination(url, other)


def test_another_sessions_name_is_taken_off_the_host():
    copied = "https://222222222222-ab12cd34.eu-west-1.console.aws.amazon.com/lambda/home?region=eu-west-1"
    taken = check_destination(copied, "aws")
    assert taken == "https://eu-west-1.console.aws.amazon.com/lambda/home?region=eu-west-1"


def test_where_a_destination_may_lead_the_pages_form_may_lead():
    """Browsers hold each redirect after the form to the policy."""
    exact = {source.removeprefix("https://") for source in form_action_origins()}
    within = tuple(host.removeprefix("*") for host in exact if host.startswith("*."))
    for url, _ in GOOD:
        host = str(urlsplit(url).hostname)
        assert host in exact or host.endswith(within), host


def test_a_query_of_logs_insights_fits():
    url = "https://eu-west-1.console.aws.amazon.com/cloudwatch/home?region=eu-west-1#logsV2:logs-insights$3FqueryDetail$3D"
    url += "~(end~0~start~-3600~timeType~'RELATIVE~unit~'seconds~editorString~'fields*20*40timestamp" * 15
    assert 1200 < len(url) < 2000
    assert check_destination(url, "aws") == url


def test_the_host_comes_back_in_lower_case_and_with_a_path():
    assert check_destination("HTTPS://Console.AWS.amazon.com", "aws") == "https://console.aws.amazon.com/"
    assert check_destination("https://console.aws.amazon.com?a=B", "aws").endswith("?a=B")


@given(
    st.one_of(
        st.text(max_size=80),
        st.builds(
            "{}{}{}{}{}".format,
            st.sampled_from(["https://", "https:", "HTTPS:/\\", "http://", "//", "https:// ", "https://a@"]),
            st.text("ab1-.@:\\/?#%\t évil", max_size=12),
            st.sampled_from(["console.aws.amazon.com", "Console.aws.amazon.com.", "console.aws.amazon.co"]),
            st.text("ab1-.@:\\/?#%\t é", max_size=12),
            st.text(max_size=8),
        ),
        st.builds("https://console.aws.amazon.com/{}".format, st.text(max_size=30)),
    )
)
@example("https://a.console.aws.amazon.com?@evil.example")
def test_whatever_is_taken_is_the_console_to_every_reader_of_addresses(url):
    try:
        taken = check_destination(url, "aws")
    except ValueError:
        return
    standard, other = urlsplit(taken), httpx.URL(taken)
    for host in (standard.hostname, standard.netloc, other.host, other.netloc.decode()):
        assert re.fullmatch(r"([a-z0-9-]+\.)*(console|health|phd|lightsail|quicksight)\.aws\.amazon\.com", host or "")
    assert standard.scheme == other.scheme == "https"
    assert standard.port is None
    assert other.port is None
    assert not standard.username
    assert not re.search(r'[\s\\"<>]', taken)
    assert check_destination(taken, "aws") == taken


def test_the_federation_endpoint_is_the_partitions_unless_set():
    assert federation_url("aws") == "https://signin.aws.amazon.com/federation"
    assert federation_url("aws-us-gov") == "https://signin.amazonaws-us-gov.com/federation"
    assert federation_url("aws-cn", None) == "https://signin.amazonaws.cn/federation"
    assert federation_url("aws", "") == "https://signin.aws.amazon.com/federation"
    assert federation_url("aws", "http://127.0.0.1:8123/federation") == "http://127.0.0.1:8123/federation"
    assert federation_url("aws", "https://eu-west-1.signin.aws.amazon.com/federation")


@pytest.mark.parametrize(
    "override",
    [
        "http://signin.aws.amazon.com/federation",
        "http://127.0.0.1.evil.example/",
        "http://localhost@evil.example/",
        "https://user:pw@signin.aws.amazon.com/",
        "https://signin.aws.amazon.com/federation?Action=login",
        "https://a.example;script-src *",
        "https://a.example 'unsafe-inline'",
        "https://*.example/",
        "ftp://localhost/",
        "signin.aws.amazon.com",
        "javascript:alert(1)",
    ],
)
def test_an_unsafe_federation_endpoint_is_refused(override):
    with pytest.raises(ValueError, match="federation endpoint"):
        federation_url("aws", override)
    with pytest.raises(ValueError, match="federation endpoint"):
        form_action_origins(override)


def test_an_unknown_partition_is_refused():
    for ask in (federation_url, partitions.sts_region, partitions.console_home):
        with pytest.raises(ValueError, match="aws-moon"):
            ask("aws-moon")


def test_the_form_may_go_where_aws_sends_people_on():
    origins = form_action_origins()

    for partition in partitions.PARTITIONS.values():
        for domain in (partition.sign_in, partition.console):
            assert {f"https://{domain}", f"https://*.{domain}"} <= set(origins)
    assert all(re.fullmatch(r"https://(\*\.)?[a-z.-]+", origin) for origin in origins)


def test_a_stand_in_is_the_only_place_when_it_is_set():
    assert form_action_origins("http://127.0.0.1:8123/federation") == ["http://127.0.0.1:8123"]
    assert form_action_origins("https://eu-west-1.signin.aws.amazon.com/federation") == form_action_origins()
    assert form_action_origins("https://evil-signin.aws.amazon.com.example/x") == [
        "https://evil-signin.aws.amazon.com.example"
    ]
