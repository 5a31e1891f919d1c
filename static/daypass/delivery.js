// One delivery, from the press to the opened envelope:
// make a key, ask, poll while a worker mints if that takes longer than a moment, take the envelope once, open it here.
import { makeKey, open } from "./sealed.js";
import { setServerNow, speak } from "./countdown.js";
import { SIGNED_OUT, signInBy } from "./typed.js";

const LONGEST = 30_000;
const QUIET_FOR = 500; // no spinner for what feels immediate

/** Why nothing came, in words for the person; `code` and `aws` are AWS's own. */
export class Failure extends Error {
  constructor(message, { advice = "", code = "", aws = "", signIn = false, outdated = false, notYet = false, fields = {} } = {}) {
    super(message);
    Object.assign(this, { advice, code, aws, signIn, outdated, notYet, fields });
  }
}

/** What the worker sealed for this tab, as an object. `progress(words)` is called as things move. */
export async function deliver(panel, { destination = "", progress = () => {} } = {}) {
  if (!window.isSecureContext || !crypto?.subtle) {
    throw new Failure("This page is not on a secure connection, so the browser makes no key.", {
      advice: "Open Daypass by https.",
    });
  }
  const deadline = performance.now() + LONGEST;
  progress("Asking AWS…");
  const key = await makeKey();
  const asked = await send(panel.dataset.url, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRFToken": panel.dataset.csrf, Prefer: "wait" },
    body: JSON.stringify({ code: panel.dataset.code, kind: panel.dataset.kind, jwk: key.jwk, destination }),
  });
  const envelope = asked.envelope ?? await untilHandedOver(`${panel.dataset.url}${asked.id}`, panel, deadline, progress);
  try {
    return await open(envelope, key.privateKey);
  } catch (error) {
    throw new Failure("What arrived could not be opened by this tab, so it was thrown away.", {
      advice: "Nothing was shown to anyone. Try again; if it happens twice, tell an operator.",
    });
  }
}

// The answer to the wish has waited a moment already, unless too many wait.
async function untilHandedOver(address, panel, deadline, progress) {
  let wait = 300;
  let last = { state: "asked" };
  while (performance.now() < deadline) {
    await new Promise((resolve) => { setTimeout(resolve, wait); });
    wait = Math.min(wait * 1.4, 1000);
    try {
      last = await send(address);
      setServerNow(last.server_time);
      if (last.state === "sealed") {
        progress("Sealing for this browser…");
        const taken = await send(`${address}/envelope`, { method: "POST", headers: { "X-CSRFToken": panel.dataset.csrf } });
        return taken.envelope;
      }
      if (last.state !== "asked" && last.state !== "claimed") {
        throw new Failure(last.message, { advice: last.advice, code: last.code, aws: last.aws_message });
      }
      progress("Asking AWS…");
    } catch (error) {
      if (!(error instanceof Failure) || !(error.lost || error.notYet)) throw error;
      if (error.lost) progress("The connection to Daypass is lost. Trying again…");
    }
  }
  throw new Failure("There was no answer within 30 seconds.", {
    advice: last.state === "asked"
      ? "No worker has taken this up, so nothing was issued. Try again; if it stays so, tell an operator."
      : "AWS is slow or out of reach. If something was issued after all, nobody can open it, and it stops with your pass. Try again in a minute.",
  });
}

async function send(address, options = {}) {
  let response;
  try {
    response = await fetch(address, {
      credentials: "same-origin", cache: "no-store", redirect: "manual",
      headers: { Accept: "application/json", ...options.headers },
      method: options.method ?? "GET", body: options.body, signal: AbortSignal.timeout(10_000),
    });
  } catch (error) {
    const failure = new Failure("Daypass cannot be reached from here.", { advice: "Check your connection, then try again." });
    failure.lost = true;
    throw failure;
  }
  if (response.type === "opaqueredirect" || response.status === 401) {
    throw new Failure(SIGNED_OUT, { signIn: true });
  }
  let body;
  try {
    body = await response.json();
  } catch (error) {
    body = {};
  }
  if (response.ok) return body;
  throw new Failure(body.message ?? `Daypass answered with an error (${response.status}).`, {
    advice: body.advice ?? (body.message ? "" : "Try again in a minute; if it stays, tell an operator."),
    code: body.code ?? "", aws: body.aws_message ?? "", outdated: body.rule === "page.outdated",
    notYet: body.rule === "delivery.not_yet", fields: body.fields ?? {},
  });
}

/** Show one phase of a panel: the elements whose data-phase names it. */
export function phase(panel, name) {
  panel.dataset.at = name;
  panel.querySelectorAll("[data-phase]").forEach((element) => {
    element.hidden = !element.dataset.phase.split(" ").includes(name);
  });
}

/** A progress reporter that stays silent for half a second. */
export function quietProgress(panel) {
  const line = panel.querySelector("[data-progress]");
  let words = "";
  let shown = false;
  const timer = setTimeout(() => {
    shown = true;
    line.textContent = words;
    phase(panel, "working");
    speak(words);
  }, QUIET_FOR);
  return {
    say(next) {
      if (next === words) return;
      words = next;
      if (shown) {
        line.textContent = words;
        speak(words);
      }
    },
    stop() { clearTimeout(timer); },
  };
}

/** Show a failure in the panel, AWS's own words folded. */
export function showFailure(panel, error) {
  const failure = error instanceof Failure ? error : new Failure("Something went wrong on this page.", { advice: "Reload it and try again." });
  panel.querySelector("[data-failure-message]").textContent = failure.message;
  panel.querySelector("[data-failure-advice]").textContent = failure.advice ?? "";
  panel.querySelector("[data-failure-sign-in]").hidden = !failure.signIn;
  signInBy(panel.querySelector("[data-failure-sign-in] a"));
  panel.querySelector("[data-failure-outdated]").hidden = !failure.outdated;
  const fold = panel.querySelector("[data-failure-aws]");
  fold.hidden = !(failure.code || failure.aws);
  panel.querySelector("[data-failure-words]").textContent = [failure.code, failure.aws].filter(Boolean).join(": ");
  phase(panel, "failed");
  const next = failure.signIn ? "[data-failure-sign-in] a" : failure.outdated ? "[data-failure-outdated] a" : "[data-failure-again], [data-destination-form] button";
  panel.querySelector(next)?.focus();
  speak(`${failure.message} ${failure.advice ?? ""}`);
}

// --- a press on another page ---------------------------------------------------------------------
// Opening a page must change nothing, so a press is carried over as what it was, once, for a moment.

const PRESS = "daypass-press";

export function rememberPress(kind, code) {
  try { sessionStorage.setItem(PRESS, JSON.stringify({ kind, code, at: Date.now() })); } catch (error) { /* one more press, then */ }
}

export function wasPressed(kind, code) {
  try {
    const press = JSON.parse(sessionStorage.getItem(PRESS) ?? "null");
    sessionStorage.removeItem(PRESS);
    return press?.kind === kind && press.code === code && Date.now() - press.at < 10_000;
  } catch (error) {
    return false;
  }
}
