import copy
import json
import logging
import pickle
from dataclasses import asdict, dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requests_app.domain.secret import Secret

HIDDEN = "wJalrXUtnFEMI/K7MDENG"


@dataclass
class Holder:
    key: Secret


def test_only_reveal_reveals():
    assert Secret(HIDDEN).reveal() == HIDDEN


@pytest.mark.parametrize(
    "show",
    [repr, str, "{}".format, "{!r:>40}".format, "%s".__mod__, lambda held: repr({"a": [held]}), ascii],
)
def test_it_shows_itself_in_no_text(show):
    assert HIDDEN not in show(Secret(HIDDEN))
    assert HIDDEN not in show(Holder(Secret(HIDDEN)))
    assert HIDDEN not in f"{Secret(HIDDEN):>40}"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_is_not_pickled(protocol):
    with pytest.raises(TypeError):
        pickle.dumps([Secret(HIDDEN)], protocol)


@pytest.mark.parametrize("take_out", [copy.copy, copy.deepcopy, json.dumps, vars, dict, list, iter, len, bytes])
def test_nothing_else_takes_it_out(take_out):
    with pytest.raises(TypeError):
        take_out(Secret(HIDDEN))


def test_a_dataclass_with_one_does_not_become_plain_data():
    with pytest.raises(TypeError):
        asdict(Holder(Secret(HIDDEN)))


def test_a_log_line_and_a_traceback_do_not_show_it(caplog):
    caplog.set_level(0)
    held = Secret(HIDDEN)
    try:
        raise ValueError(held)
    except ValueError:
        logging.getLogger("test").exception("with %s and %r", held, {"held": held}, extra={"held": held})

    assert HIDDEN not in caplog.text
    assert HIDDEN not in repr(vars(caplog.records[0]))


@given(st.text(), st.text())
def test_two_are_equal_when_their_texts_are(one, other):
    assert (Secret(one) == Secret(other)) is (one == other)


def test_it_equals_no_plain_text_and_is_no_key():
    assert Secret(HIDDEN) != HIDDEN
    with pytest.raises(TypeError):
        hash(Secret(HIDDEN))
