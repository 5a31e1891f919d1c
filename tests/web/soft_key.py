"""A passkey without a browser, which says whatever a test wants it to."""

import json
import secrets
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from fido2.cose import ES256
from fido2.utils import websafe_decode, websafe_encode
from fido2.webauthn import AttestationObject, AttestedCredentialData, AuthenticatorData, CollectedClientData

PRESENT, VERIFIED, NEW = 0x01, 0x04, 0x40


class SoftKey:
    def __init__(self, origin: str, rp_id: str) -> None:
        self.origin, self.rp_id = origin, rp_id
        self.private = ec.generate_private_key(ec.SECP256R1())
        self.id = secrets.token_bytes(32)

    def make(self, options: dict[str, Any], **lies: Any) -> str:
        """What a browser sends back for the options of a page that adds a passkey."""
        public = ES256.from_cryptography_key(self.private.public_key())
        credential = AttestedCredentialData.create(bytes(16), self.id, public)
        data = self._data(lies, NEW, credential)
        attested = AttestationObject.create("none", data, {})
        client = self._client("webauthn.create", options, lies)
        response = {"clientDataJSON": websafe_encode(client), "attestationObject": websafe_encode(bytes(attested))}
        return self._as_json(response, lies)

    def sign(self, options: dict[str, Any], **lies: Any) -> str:
        """The same for a page that asks for one."""
        data, client = self._data(lies, 0, None), self._client("webauthn.get", options, lies)
        signature = self.private.sign(bytes(data) + sha256(client).digest(), ec.ECDSA(SHA256()))
        response = {
            "clientDataJSON": websafe_encode(client),
            "authenticatorData": websafe_encode(bytes(data)),
            "signature": websafe_encode(signature),
        }
        return self._as_json(response, lies)

    def _data(self, lies: dict[str, Any], flag: int, credential: AttestedCredentialData | None) -> AuthenticatorData:
        rp_hash = sha256(str(lies.get("rp_id", self.rp_id)).encode()).digest()
        return AuthenticatorData.create(
            rp_hash, AuthenticatorData.FLAG(flag | int(lies.get("flags", PRESENT | VERIFIED))), 0, credential or b""
        )

    def _client(self, kind: str, options: dict[str, Any], lies: dict[str, Any]) -> CollectedClientData:
        challenge = lies.get("challenge", websafe_decode(options["publicKey"]["challenge"]))
        more = {"topOrigin": lies["top_origin"]} if "top_origin" in lies else {}
        return CollectedClientData.create(
            lies.get("type", kind), challenge, lies.get("origin", self.origin), lies.get("cross_origin", False), **more
        )

    def _as_json(self, response: dict[str, str], lies: dict[str, Any]) -> str:
        key = websafe_encode(lies.get("id", self.id))
        return json.dumps(
            {"type": "public-key", "id": key, "rawId": key, "response": response, "clientExtensionResults": {}}
        )
