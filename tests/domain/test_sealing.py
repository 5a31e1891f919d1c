"""Sealing, opened again by an implementation of RFC 7516 and 7518 that shares no code with the product's."""

import base64
import hashlib
import json
import struct
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from requests_app.domain.sealing import check_recipient_key, seal, thumbprint
from requests_app.domain.secret import Secret

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
P256_PRIME = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
private_keys = st.integers(1, P256_ORDER - 1).map(lambda number: ec.derive_private_key(number, ec.SECP256R1()))


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def decode(text: str) -> bytes:
    assert "=" not in text
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def public_jwk(key: ec.EllipticCurvePrivateKey) -> dict:
    numbers = key.public_key().public_numbers()
    return {
        "kty": "EC",
        "crv": "P-256",
        "x": encode(numbers.x.to_bytes(32)),
        "y": encode(numbers.y.to_bytes(32)),
    }


def open_sealed(sealed: str, key: ec.EllipticCurvePrivateKey) -> dict:
    """As a browser does it with WebCrypto: deriveBits, one round of Concat KDF, AES-GCM."""
    protected, encrypted_key, nonce, ciphertext, tag = sealed.split(".")
    header = json.loads(decode(protected))
    assert header.keys() == {"alg", "enc", "epk"}
    assert (header["alg"], header["enc"]) == ("ECDH-ES", "A256GCM")
    assert encrypted_key == ""
    assert header["epk"].keys() == {"kty", "crv", "x", "y"}
    x, y = (int.from_bytes(decode(header["epk"][name])) for name in "xy")
    ephemeral = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    z = key.exchange(ec.ECDH(), ephemeral)
    algorithm = b"A256GCM"
    other_info = struct.pack(">I", len(algorithm)) + algorithm + struct.pack(">III", 0, 0, 256)
    content_key = hashlib.sha256(struct.pack(">I", 1) + z + other_info).digest()
    plain = AESGCM(content_key).decrypt(decode(nonce), decode(ciphertext) + decode(tag), protected.encode())
    return json.loads(plain)


@given(private_keys, st.dictionaries(st.text(), st.text() | st.integers() | st.none()))
def test_only_the_recipient_opens_it(key, payload):
    sealed = seal(payload, public_jwk(key))

    assert open_sealed(sealed, key) == payload
    with pytest.raises(InvalidTag):
        open_sealed(sealed, ec.generate_private_key(ec.SECP256R1()))


def test_secrets_are_revealed_to_the_recipient_alone():
    key = ec.generate_private_key(ec.SECP256R1())
    payload = {"access_key_id": "ASIA", "keys": {"secret": Secret("wJalr")}, "list": [Secret("Tokyö")]}

    sealed = seal(payload, public_jwk(key))

    assert open_sealed(sealed, key) == {"access_key_id": "ASIA", "keys": {"secret": "wJalr"}, "list": ["Tokyö"]}
    assert not any(b"wJalr" in decode(part) for part in sealed.split("."))


def test_many_threads_seal_at_once_each_for_its_own_recipient():
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(200)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as threads:
            sealed = list(threads.map(lambda number: seal({"number": number}, public_jwk(keys[number])), range(200)))
    finally:
        sys.setswitchinterval(interval)

    assert [open_sealed(envelope, key)["number"] for envelope, key in zip(sealed, keys, strict=True)] == [*range(200)]


def test_each_sealing_is_another():
    jwk = public_jwk(ec.generate_private_key(ec.SECP256R1()))

    first, second = (seal({"a": "b"}, jwk).split(".") for _ in range(2))

    assert first[0] != second[0]  # the ephemeral key
    assert first[2] != second[2]  # the nonce


@pytest.mark.parametrize("part", [0, 2, 3, 4])
def test_a_changed_letter_opens_no_more(part):
    key = ec.generate_private_key(ec.SECP256R1())
    parts = seal({"a": "b" * 30}, public_jwk(key)).split(".")
    changed = bytearray(decode(parts[part]))
    changed[-2] ^= 1
    parts[part] = encode(bytes(changed))

    with pytest.raises((InvalidTag, ValueError, AssertionError)):
        open_sealed(".".join(parts), key)


def test_what_cannot_be_sealed_is_not_told():
    jwk = public_jwk(ec.generate_private_key(ec.SECP256R1()))

    with pytest.raises(TypeError) as raised:
        seal({"odd": {1, 2}, "secret": Secret("wJalr")}, jwk)

    assert "wJalr" not in str(raised.value)


@given(private_keys)
def test_a_good_key_is_reduced_to_its_four_parts(key):
    jwk = public_jwk(key)
    browser = jwk | {"ext": True, "key_ops": [], "alg": "ECDH-ES", "use": "enc", "kid": "x" * 10_000}

    assert check_recipient_key(browser) == jwk


def test_the_thumbprint_is_rfc_7638s_and_depends_on_the_key_alone():
    jwk = public_jwk(ec.generate_private_key(ec.SECP256R1()))
    canonical = json.dumps(jwk, sort_keys=True, separators=(",", ":"))

    expected = encode(hashlib.sha256(canonical.encode()).digest())

    assert thumbprint(jwk) == expected
    assert thumbprint(jwk | {"kid": "another"}) == expected


@pytest.mark.parametrize("curve", ["P-384", "P-521", "secp256k1"])
def test_another_curve_is_refused_even_when_it_says_p_256(curve):
    jwk = ECKey.generate_key(curve, private=False).as_dict(private=False)

    for use in (check_recipient_key, thumbprint, lambda key: seal({}, key)):
        with pytest.raises(ValueError, match=r"P-256|coordinates"):
            use(jwk)
        with pytest.raises(ValueError, match=r"P-256|coordinates"):
            use(jwk | {"crv": "P-256"})


@pytest.mark.parametrize(
    "change", [{"crv": "secp256k1"}, {"crv": "P-384"}, {"crv": None}, {"kty": "OKP"}, {"kty": "ec"}]
)
def test_a_point_on_p_256_must_say_so(change):
    with pytest.raises(ValueError, match="P-256"):
        check_recipient_key(public_jwk(ec.generate_private_key(ec.SECP256R1())) | change)


@given(private_keys)
def test_a_private_key_is_refused_and_not_repeated(key):
    private = encode(key.private_numbers().private_value.to_bytes(32))

    with pytest.raises(ValueError, match="private part") as raised:
        check_recipient_key(public_jwk(key) | {"d": private})

    assert private not in str(raised.value)


@pytest.mark.parametrize(
    "other",
    [
        OctKey.generate_key(256).as_dict(private=True),
        RSAKey.generate_key(2048).as_dict(private=False),
        OKPKey.generate_key("X25519").as_dict(private=False),
        {"keys": []},
        {},
        [],
        None,
        "key",
        {"kty": "EC", "crv": "P-256"},
        {"kty": ["EC"], "crv": "P-256", "x": "A" * 43, "y": "A" * 43},
        {"kty": "EC", "crv": "P-256", "x": 1, "y": 2},
        {str(number): "x" for number in range(100)},
    ],
)
def test_what_is_no_such_key_is_refused(other):
    with pytest.raises(ValueError, match=r"recipient's key"):
        check_recipient_key(other)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_a_point_off_the_curve_is_refused(x, y):
    a, b = int.from_bytes(x), int.from_bytes(y)
    on_curve = (b * b - a**3 + 3 * a - 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B) % P256_PRIME
    if on_curve == 0 and max(a, b) < P256_PRIME:
        return  # happens once in 2^256

    with pytest.raises(ValueError, match="not a point"):
        check_recipient_key({"kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y)})


@given(private_keys, st.sampled_from("xy"), st.sampled_from(["pad", "short", "long", "plus", "space", "alias"]))
def test_a_coordinate_has_one_spelling(key, name, change):
    jwk = public_jwk(key)
    text = jwk[name]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    jwk[name] = {
        "pad": text + "=",
        "short": text[:-1],
        "long": text + "A",
        "plus": "+" + text[1:],
        "space": text[:-1] + "\n",
        "alias": text[:-1] + alphabet[alphabet.index(text[-1]) + 1],  # the same 32 bytes, spare bits set
    }[change]

    with pytest.raises(ValueError, match="coordinates"):
        check_recipient_key(jwk)
