import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from requests_app.aws.names import is_source_identity, session_name

CODE = "DP-7K2M9QX4"
# As the service model of STS has it: `\w` there is ASCII.
AWS_NAME = re.compile(r"[A-Za-z0-9_+=,.@-]{2,64}")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("alice", "DP-7K2M9QX4-alice"),
        ("alice@example.com", "DP-7K2M9QX4-alice@example.com"),
        ("Zoë Müller", "DP-7K2M9QX4-Zoe-Muller"),
        ("Łukasz Strauß", "DP-7K2M9QX4-Lukasz-Strauss"),
        ("東京太郎", "DP-7K2M9QX4-someone"),
        ("", "DP-7K2M9QX4-someone"),
        ("*", "DP-7K2M9QX4-someone"),
        ("a:b/c*d?e${f}", "DP-7K2M9QX4-a-b-c-d-e-f"),
        ("x" * 200, "DP-7K2M9QX4-" + "x" * 52),
    ],
)
def test_session_name(name, expected):
    assert session_name(CODE, name) == expected


@given(st.text())
@example("٣٤٥")  # digits to Python's \w, not to AWS
@example("ａｌｉｃｅ")
@example("\udc80")
@example("a\x00b\n")
def test_any_name_gives_one_that_aws_takes_and_a_revocation_finds(name):
    made = session_name(CODE, name)

    assert AWS_NAME.fullmatch(made)
    assert re.fullmatch(rf"{CODE}-.+", made)


@pytest.mark.parametrize("code", ["", "DP", "dp-7k2m9qx4", "DP-7K2M9QX4-", "DP-*", "DP-٣", "DP-7K2M9QX4\n"])
def test_what_is_no_code_is_a_fault(code):
    with pytest.raises(ValueError, match="code"):
        session_name(code, "alice")


@given(st.text(max_size=80))
@example("a")
@example("aws:alice")
@example("alice\n")
@example("ali٣ce")
def test_source_identity_is_aws_own_alphabet(text):
    assert is_source_identity(text) is bool(AWS_NAME.fullmatch(text))
