"""Sealing for one recipient: JWE compact, ECDH-ES on P-256 with A256GCM, and nothing else."""

import base64
import json
import re
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jwe
from joserfc.jwk import ECKey

from requests_app.domain.secret import Secret

_HEADER = {"alg": "ECDH-ES", "enc": "A256GCM"}
_MOST_MEMBERS = 16


def check_recipient_key(jwk: Mapping[str, Any]) -> dict[str, str]:
    """The public key in `jwk`, reduced to kty, crv, x and y.

    Raises ValueError, with a sentence for the person, unless it is a public key on P-256.
    The library would take other curves too, hence our own look at each part.
    """
    if not isinstance(jwk, Mapping) or len(jwk) > _MOST_MEMBERS:
        raise ValueError("The recipient's key is not a JSON Web Key.")
    if "d" in jwk:
        raise ValueError("The recipient's key contains its private part: make a new one and send only the public part.")
    if jwk.get("kty") != "EC" or jwk.get("crv") != "P-256":
        raise ValueError("The recipient's key must be an elliptic curve key on P-256.")
    x, y = _coordinate(jwk.get("x")), _coordinate(jwk.get("y"))
    try:
        ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    except ValueError:
        raise ValueError("The recipient's key is not a point on the curve P-256.") from None
    return {"kty": "EC", "crv": "P-256", "x": jwk["x"], "y": jwk["y"]}


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """The key's SHA-256 thumbprint (RFC 7638), base64url. Raises ValueError on a bad key."""
    return ECKey.import_key(dict(check_recipient_key(jwk))).thumbprint()


def seal(payload: Mapping[str, Any], jwk: Mapping[str, Any]) -> str:
    """`payload` as a JWE that only the holder of the private key opens. Raises ValueError on a bad key.

    The one place where Secrets are revealed. ECDH-ES names no sender: a reader learns that the
    content is whole, not who made it.
    """
    key = ECKey.import_key(dict(check_recipient_key(jwk)))
    # A copy each time: joserfc writes this envelope's ephemeral key into it, and a worker seals in many threads.
    return jwe.encrypt_compact(
        dict(_HEADER), json.dumps(payload, default=_reveal).encode(), key, algorithms=[*_HEADER.values()]
    )


def _reveal(value: object) -> str:
    if isinstance(value, Secret):
        return value.reveal()
    raise TypeError(f"cannot seal a {type(value).__name__}")


def _coordinate(text: object) -> int:
    """32 bytes of base64url in its only spelling, so that one key has one thumbprint."""
    if not isinstance(text, str) or not re.fullmatch(r"[A-Za-z0-9_-]{43}", text):
        raise ValueError("The recipient's key must have the coordinates x and y, 32 bytes each.")
    number = base64.urlsafe_b64decode(text + "=")
    if base64.urlsafe_b64encode(number).decode().rstrip("=") != text:
        raise ValueError("The recipient's key has coordinates that are not plain base64url.")
    return int.from_bytes(number, "big")
