// <form data-passkey="create" or "get" data-options="…">: its button asks the browser for a passkey, and what that
// says goes into the form, which is sent. Only the server judges it.
const decoded = (text) =>
  Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (character) => character.charCodeAt(0));
const encoded = (bytes) =>
  btoa(String.fromCharCode(...new Uint8Array(bytes))).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");

function optionsOf(form) {
  const options = JSON.parse(form.dataset.options).publicKey;
  options.challenge = decoded(options.challenge);
  if (options.user) options.user.id = decoded(options.user.id);
  for (const known of [...(options.excludeCredentials ?? []), ...(options.allowCredentials ?? [])]) known.id = decoded(known.id);
  return { publicKey: options };
}

function asJson(credential) {
  const response = {};
  for (const name of ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"]) {
    if (credential.response[name]) response[name] = encoded(credential.response[name]);
  }
  return JSON.stringify({
    type: credential.type, id: credential.id, rawId: encoded(credential.rawId), response, clientExtensionResults: {},
  });
}

const TROUBLES = {
  InvalidStateError: "There is a passkey of yours on this device already.",
  NotAllowedError: "Nothing was confirmed: it was cancelled, or took too long. Try again.",
  SecurityError: "Passkeys do not work at this address. Open Daypass by the address that your operators gave you.",
};

for (const form of document.querySelectorAll("form[data-passkey]")) {
  const trouble = form.querySelector("[data-passkey-trouble]");
  const button = form.querySelector("[data-passkey-ask]");
  const say = (sentence) => { trouble.textContent = sentence; trouble.hidden = !sentence; };
  const ask = async () => {
    say("");
    if (!window.PublicKeyCredential) {
      say("This browser has no passkeys, or not at this address. Use a code, or another browser.");
      return;
    }
    button.disabled = true;
    try {
      const made = await navigator.credentials[form.dataset.passkey](optionsOf(form));
      form.querySelector("[name=credential]").value = asJson(made);
      form.requestSubmit();
    } catch (error) {
      say(TROUBLES[error.name] ?? `It did not work (${error.name}). Try again, or use a code.`);
      button.disabled = false;
    }
  };
  button.addEventListener("click", ask);
  button.disabled = false; // not before anybody listens
  // Enter in a field of its own means the same.
  form.addEventListener("submit", (event) => {
    if (form.querySelector("[name=credential]").value) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    ask();
  }, true);
}
