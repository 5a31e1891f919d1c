import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from requests_app.domain import envelopes, store
from requests_app.domain.envelopes import EnvelopeStoreDown
from requests_app.domain.sealing import seal

from .test_sealing import public_jwk

DELIVERY = "0b9f4f0e-3c1d-4d55-8f0a-5d2a8c7f6e11"


@pytest.fixture
def sealed() -> str:
    return seal({"secret": "wJalr"}, public_jwk(ec.generate_private_key(ec.SECP256R1())))


@pytest.fixture(autouse=True)
def fresh_client():
    store._client.cache_clear()
    yield
    store._client.cache_clear()


def test_an_envelope_is_taken_once(redis_server, sealed):
    envelopes.put(DELIVERY, sealed)

    assert envelopes.take(DELIVERY) == sealed
    assert envelopes.take(DELIVERY) is None
    assert redis_server.keys() == []


def test_it_lives_for_a_minute_and_no_longer(redis_server, sealed):
    envelopes.put(DELIVERY, sealed)
    keys = sorted(redis_server.keys())
    assert keys == [f"bell:{DELIVERY}".encode(), f"envelope:{DELIVERY}".encode()]
    assert all(55 < redis_server.ttl(key) <= 60 for key in keys)

    envelopes.put(DELIVERY, sealed, seconds=1)
    time.sleep(1.1)
    assert envelopes.take(DELIVERY) is None


def test_of_many_who_ask_at_once_one_gets_it(redis_server, sealed):
    envelopes.put(DELIVERY, sealed)

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(envelopes.take, [DELIVERY] * 64))

    assert [answer for answer in answers if answer] == [sealed]


def test_somebody_elses_envelope_is_not_touched(redis_server, sealed):
    envelopes.put(DELIVERY, sealed)

    assert envelopes.take("another") is None
    assert envelopes.take(DELIVERY) == sealed


@pytest.mark.parametrize(
    "clear", ['{"secret": "wJalr"}', "wJalrXUtnFEMI/K7MDENG", "", "a.b.c.d", "a.b.c.d.e\n", "a.b.c.d.ü"]
)
def test_nothing_is_stored_in_the_clear(redis_server, clear):
    with pytest.raises(ValueError, match="sealed") as raised:
        envelopes.put(DELIVERY, clear)

    assert "wJalr" not in str(raised.value)
    assert redis_server.keys() == []


@pytest.mark.parametrize("planted", [b"\x80\x04\x95(pickle)", b"", b"\xff\xfe", b"<script>", b"a.b.c.d.e.f"])
def test_what_somebody_planted_is_not_handed_out(redis_server, planted):
    redis_server.set(f"envelope:{DELIVERY}", planted)

    assert envelopes.take(DELIVERY) is None


def test_a_key_of_another_type_is_trouble_and_no_crash(redis_server):
    redis_server.lpush(f"envelope:{DELIVERY}", "x")

    with pytest.raises(EnvelopeStoreDown):
        envelopes.take(DELIVERY)


def test_nobody_there(settings, sealed):
    settings.REDIS_URL = "redis://:hidden@127.0.0.1:9/0"

    for use in (lambda: envelopes.put(DELIVERY, sealed), lambda: envelopes.take(DELIVERY)):
        with pytest.raises(EnvelopeStoreDown) as raised:
            use()
        assert "hidden" not in repr(raised.value)


def test_a_redis_that_hangs_is_given_a_second(settings, sealed):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        threading.Thread(target=mute.accept, daemon=True).start()
        settings.REDIS_URL = f"redis://127.0.0.1:{mute.getsockname()[1]}/0"
        for use in (lambda: envelopes.put(DELIVERY, sealed), lambda: envelopes.take(DELIVERY)):
            started = time.monotonic()
            with pytest.raises(EnvelopeStoreDown):
                use()
            assert time.monotonic() - started < 1.8


def test_a_connection_that_redis_closed_meanwhile_is_opened_anew(redis_server, sealed):
    envelopes.put(DELIVERY, sealed)
    ours = redis_server.connection_pool.connection_kwargs["db"]
    idle = [one["id"] for one in redis_server.client_list() if int(one["db"]) == ours and one["cmd"] != "client|list"]
    assert idle
    for connection in idle:  # those of other tests at this server have other databases
        redis_server.client_kill_filter(_id=connection)

    assert envelopes.take(DELIVERY) == sealed
