// Opens what a worker sealed for this tab: JWE compact, ECDH-ES on P-256, A256GCM, and nothing else.
// The private half cannot be exported, lives in this tab only, and for one delivery.

const CURVE = { name: "ECDH", namedCurve: "P-256" };

/** A fresh key: {jwk} goes to the server, {privateKey} goes nowhere. */
export async function makeKey() {
  const pair = await crypto.subtle.generateKey(CURVE, false, ["deriveBits"]);
  const { kty, crv, x, y } = await crypto.subtle.exportKey("jwk", pair.publicKey);
  return { jwk: { kty, crv, x, y }, privateKey: pair.privateKey };
}

/** The JSON inside a JWE; throws if it was not sealed for this key or was touched. */
export async function open(jwe, privateKey) {
  const parts = jwe.trim().split(".");
  if (parts.length !== 5) throw new Error("not a compact JWE");
  const [header64, wrapped, iv, ciphertext, tag] = parts;
  const header = JSON.parse(new TextDecoder().decode(bytes(header64)));
  if (header.alg !== "ECDH-ES" || header.enc !== "A256GCM" || wrapped !== "" || header.zip || header.crit) {
    throw new Error("sealed in a way this page does not accept");
  }
  const { kty, crv, x, y } = header.epk ?? {};
  if (kty !== "EC" || crv !== "P-256") throw new Error("sealed on a curve this page does not accept");

  const theirs = await crypto.subtle.importKey("jwk", { kty, crv, x, y }, CURVE, false, []);
  const shared = new Uint8Array(await crypto.subtle.deriveBits({ name: "ECDH", public: theirs }, privateKey, 256));
  const key = await contentKey(shared, header);
  const plain = await crypto.subtle.decrypt(
    { name: "AES-GCM", iv: bytes(iv), additionalData: ascii(header64), tagLength: 128 },
    key,
    joined(bytes(ciphertext), bytes(tag)),
  );
  return JSON.parse(new TextDecoder().decode(plain));
}

// One round of Concat KDF (RFC 7518, 4.6.2): 256 bits are one SHA-256.
async function contentKey(shared, header) {
  const info = joined(
    number(1), shared,
    measured(ascii(header.enc)), measured(bytes(header.apu ?? "")), measured(bytes(header.apv ?? "")),
    number(256),
  );
  const digest = await crypto.subtle.digest("SHA-256", info);
  return crypto.subtle.importKey("raw", digest, "AES-GCM", false, ["decrypt"]);
}

const ascii = (text) => new TextEncoder().encode(text);
const measured = (data) => joined(number(data.length), data);

function number(value) {
  const out = new Uint8Array(4);
  new DataView(out.buffer).setUint32(0, value);
  return out;
}

function joined(...arrays) {
  const out = new Uint8Array(arrays.reduce((length, array) => length + array.length, 0));
  let at = 0;
  for (const array of arrays) {
    out.set(array, at);
    at += array.length;
  }
  return out;
}

function bytes(base64url) {
  const binary = atob(base64url.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(binary, (character) => character.charCodeAt(0));
}
