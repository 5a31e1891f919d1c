"""What is understood of whatever people paste, and that nothing breaks it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requests_app.domain import pasted
from requests_app.domain.pasted import Pasted

NUMBER = "222222222222"
ROLE = Pasted("Administrator", NUMBER)
IN_AWS = ROLE._replace(partition="aws")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (f"arn:aws:iam::{NUMBER}:role/Administrator", IN_AWS),
        (f"arn:aws:iam::{NUMBER}:role/elevated/of/Administrator", IN_AWS),
        (f' "arn:aws:iam::{NUMBER}:role/Administrator", ', IN_AWS),
        (f"role_arn = arn:aws:iam::{NUMBER}:role/Administrator", IN_AWS),
        (f'"RoleArn": "arn:aws:iam::{NUMBER}:role/Administrator",', IN_AWS),
        (f"arn:aws:iam::{NUMBER}:role/eleva\n  ted/Administrator", IN_AWS),
        (f"arn:aws-cn:iam::{NUMBER}:role/Administrator", ROLE._replace(partition="aws-cn")),
        (f"arn:aws:sts::{NUMBER}:assumed-role/Administrator", IN_AWS),
        (
            f"arn:aws:sts::{NUMBER}:assumed-role/Administrator/DP-7K2M9QX4-alice",
            IN_AWS._replace(session="DP-7K2M9QX4-alice"),
        ),
        # AWS's own refusal: the role that was wanted, not who wanted it.
        (
            "An error occurred (AccessDenied) when calling the AssumeRole operation: User: "
            "arn:aws:sts::111111111111:assumed-role/Reader/alice is not authorized to perform: sts:AssumeRole on "
            f"resource: arn:aws:iam::{NUMBER}:role/Administrator.",
            IN_AWS,
        ),
        (f"arn:aws:iam::{NUMBER}:root", Pasted(number=NUMBER, partition="aws")),
        (f"arn:aws:ec2:eu-west-1:{NUMBER}:instance/i-0abc", Pasted(number=NUMBER, partition="aws")),
        (f"{NUMBER}/Administrator", ROLE),
        ("2222-2222-2222/Administrator", ROLE),
        ("2222‑2222–2222 / Administrator", ROLE),
        (f"{NUMBER}:role/elevated/Administrator", ROLE),
        ("2222-2222-2222", Pasted(number=NUMBER)),
        ("2222 2222 2222", Pasted(number=NUMBER)),
        ("\u200b２２２２\u00a022222222\u200b", Pasted(number=NUMBER)),
        ("Administrator/DP-7K2M9QX4-alice @ 2222-2222-2222", ROLE._replace(session="DP-7K2M9QX4-alice")),
        ("Administrator @ payments-prod", Pasted("Administrator", account="payments-prod", certain=False)),
        ("payments-prod/Administrator", Pasted("Administrator", account="payments-prod", certain=False)),
        ("Payments, prod / Administrator", Pasted("Administrator", account="Payments, prod", certain=False)),
        (
            f"https://signin.aws.amazon.com/switchrole?account={NUMBER}&roleName=Administrator&displayName=x+y",
            IN_AWS,
        ),
        (
            "https://eu-west-1.signin.aws.amazon.com/switchrole?roleName=elevated%2FAdministrator"
            "&account=2222-2222-2222&color=F2B0A9",
            IN_AWS,
        ),
        (
            f"https://signin.amazonaws-us-gov.com/switchrole?account={NUMBER}&roleName=elevated/Administrator",
            ROLE._replace(partition="aws-us-gov"),
        ),
        (
            f"<https://signin.amazonaws.cn/switchrole?account={NUMBER}&roleName=Administrator>",
            ROLE._replace(partition="aws-cn"),
        ),
        (
            "https://signin.aws.amazon.com/switchrole?account=payments-prod&roleName=Administrator",
            Pasted("Administrator", account="payments-prod", partition="aws"),
        ),
        (f"https://{NUMBER}.signin.aws.amazon.com/console", Pasted(number=NUMBER, partition="aws")),
        ("https://payments-prod.signin.aws.amazon.com/console/", Pasted(account="payments-prod", partition="aws")),
        (f"https://x.awsapps.com/start/#/console?account_id={NUMBER}&role_name=Administrator", ROLE),
        (
            f"https://{NUMBER}-ab1cd2ef.us-east-1.console.aws.amazon.com/iam/home#/roles/details/Administrator?section=x",
            IN_AWS,
        ),
        (
            "https://us-east-1.console.aws.amazon.com/iam/home?region=us-east-1#/roles/Administrator",
            Pasted("Administrator", partition="aws"),
        ),
    ],
)
def test_what_people_have_at_hand_is_understood(typed: str, meant: Pasted) -> None:
    assert pasted.understood(typed) == meant


@pytest.mark.parametrize(
    "typed",
    [
        *(
            "",
            "administrator",
            "pay admin",
            "2222",
            "22222222222",
            "2222222222222",
            "arn:aws:s3:::a-bucket",
            "%",
            "://",
        ),
        *("https://example.com/", "https://[", "/", "a/", "/a", "https://eu-west-1.signin.aws.amazon.com/", "a://\0"),
        "https://signin.aws.amazon.com/switchrole?account=&roleName=",
    ],
)
def test_what_names_nothing_is_words(typed: str) -> None:
    assert pasted.understood(typed) is None


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        *((one, "DP-7K2M9QX4") for one in ("dp-7k2m9qx4", " “DP-7K2M9QX4”,", "DP-7K2M9QX4-alice")),
        ("https://daypass.example.com/requests/DP-7K2M9QX4/approve?x=1#y", "DP-7K2M9QX4"),
        ("arn:aws:sts::222222222222:assumed-role/Administrator/DP-7K2M9QX4-alice", "DP-7K2M9QX4"),
        *(
            (one, "")
            for one in ("DP-7K2M9QX", "DP-7K2M9QX45", "XDP-7K2M9QX4", "alice", "xDP-7K2M9QX4/", "a DP-7K2M9QX4")
        ),
    ],
)
def test_the_code_of_a_request_is_found_where_it_is_written(typed: str, code: str) -> None:
    assert pasted.code_in(typed) == code


@given(
    st.lists(
        st.sampled_from(
            [
                "arn:aws:iam::222222222222:role/",
                "a/",
                "://",
                "@",
                "?account=",
                "&roleName=",
                "%2F",
                "#",
                "[",
                "1234-",
                " ",
            ]
        )
        | st.text(max_size=4),
        max_size=40,
    ).map("".join)
)
def test_nothing_that_is_pasted_breaks_the_search(typed: str) -> None:
    named = pasted.understood(typed)
    assert named is None or named.role or named.number or named.account
    pasted.code_in(typed)
    assert named is None or str(named)


@pytest.mark.parametrize("typed", ["arn:aws:iam::222222222222:role/" + "a/" * 990, "a/" * 1000, "-" * 2000, "1 " * 999])
def test_long_pastes_cost_nothing(typed: str) -> None:
    pasted.understood(typed)
