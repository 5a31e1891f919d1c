// The credentials page: what was sealed for this tab is opened here, shown once, and forgotten on leaving.
import { copyText } from "./copy.js";
import { serverNow, speak } from "./countdown.js";
import { deliver, phase, quietProgress, showFailure, wasPressed } from "./delivery.js";

// What AWS gives needs no quotes in any shell. Whatever would is quoted all the same.
const plain = (value) => /^[\w+/=.:-]+$/.test(value);
const quotedBy = (quote) => (value) => (plain(value) ? value : quote(value));
const sh = quotedBy((value) => `'${value.replaceAll("'", "'\\''")}'`);
const fishQuoted = quotedBy((value) => `'${value.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`);
const ps = (value) => `'${value.replaceAll("'", "''")}'`;

const regions = (keys) => (keys.region ? [["AWS_REGION", keys.region], ["AWS_DEFAULT_REGION", keys.region]] : []);
const variables = (keys) => [
  ["AWS_ACCESS_KEY_ID", keys.access_key_id],
  ["AWS_SECRET_ACCESS_KEY", keys.secret_access_key],
  ["AWS_SESSION_TOKEN", keys.session_token],
  ...regions(keys),
];
// An expiration that stays behind makes tools refuse the keys that come after: taken away, never set.
const EXPIRATION = "AWS_CREDENTIAL_EXPIRATION";
const names = ({ region }) => [...variables({ region }).map(([name]) => name), EXPIRATION];
// For the AWS CLI, which writes each into its file in place of the one before: a block pasted twice breaks that file.
const settings = (keys) => [
  ["aws_access_key_id", keys.access_key_id],
  ["aws_secret_access_key", keys.secret_access_key],
  ["aws_session_token", keys.session_token],
  ...(keys.region ? [["region", keys.region]] : []),
];

// Each line for a Unix shell starts with a space, which shells can be told to leave out of their history.
export const FORMATS = {
  bash: (keys) => [
    ...variables(keys).map(([name, value]) => ` export ${name}=${sh(value)}`), ` unset ${EXPIRATION}`,
  ].join("\n"),
  fish: (keys) => [
    ...variables(keys).map(([name, value]) => ` set -gx ${name} ${fishQuoted(value)}`), ` set -e ${EXPIRATION}`,
  ].join("\n"),
  powershell: (keys) => [
    ...variables(keys).map(([name, value]) => `$Env:${name} = ${ps(value)}`), `$Env:${EXPIRATION} = $null`,
  ].join("\n"),
  cmd: (keys) => [
    ...variables(keys).map(([name, value]) => `set "${name}=${value}"`), `set "${EXPIRATION}="`,
  ].join("\n"),
  profile: (keys) => settings(keys)
    .map(([name, value]) => ` aws configure set ${name} ${sh(value)} --profile ${keys.profile}`).join("\n"),
  process: (keys) => JSON.stringify({
    Version: 1,
    AccessKeyId: keys.access_key_id,
    SecretAccessKey: keys.secret_access_key,
    SessionToken: keys.session_token,
    Expiration: keys.ends_at,
  }, null, 2),
};

/** What takes the keys out of the shell again. */
export const UNSET = {
  bash: (keys) => ` unset ${names(keys).join(" ")}`,
  fish: (keys) => ` set -e ${names(keys).join(" ")}`,
  powershell: (keys) => names(keys).map((name) => `$Env:${name} = $null`).join("\n"),
  cmd: (keys) => names(keys).map((name) => `set "${name}="`).join("\n"),
};

/** When these very keys stop: the pass's end, or STS's own if that comes first. */
export function endOf(payload) {
  const ends = [payload.expires_at, payload.sts_expires_at].filter(Boolean).map((at) => Date.parse(at));
  return new Date(Math.min(...ends)).toISOString().replace(/\.\d+Z$/, "Z");
}

const panel = document.querySelector('[data-delivery][data-kind="credentials"]');
let keys = null;
let endTimer = 0;

async function get() {
  forget();
  const progress = quietProgress(panel);
  panel.querySelectorAll("[data-get]").forEach((button) => { button.disabled = true; });
  try {
    const payload = await deliver(panel, { progress: progress.say });
    const { profile, region } = panel.dataset;
    keys = { ...payload, profile, region, ends_at: endOf(payload) };
    progress.stop();
    show();
  } catch (error) {
    progress.stop();
    showFailure(panel, error);
  } finally {
    panel.querySelectorAll("[data-get]").forEach((button) => { button.disabled = false; });
  }
}

function show() {
  const end = Date.parse(keys.ends_at);
  const clock = panel.querySelector("[data-keys-clock]");
  clock.dataset.endsAt = keys.ends_at;
  clock.setAttribute("datetime", keys.ends_at);
  clock.setAttribute("data-countdown", "");
  clock.textContent = "";
  panel.querySelector("[data-keys-until]").textContent = inZone(end);
  const sooner = end < Date.parse(keys.expires_at) - 60_000;
  panel.querySelector("[data-keys-sooner]").hidden = !sooner;
  panel.querySelector("[data-pass-until]").textContent = inZone(Date.parse(keys.expires_at));
  clearTimeout(endTimer);
  if (end - serverNow() < 2 ** 31) endTimer = setTimeout(() => gone("over"), Math.max(0, end - serverNow()));
  write();
  phase(panel, "ready");
  panel.querySelector("[data-keys-copy]").focus();
  speak(`Your credentials are here. They work until ${inZone(end)}.`);
}

function write() {
  const box = panel.querySelector("[data-keys-text]");
  const text = FORMATS[chosen()](keys);
  box.replaceChildren();
  // Veiled against eyes and shared screens, yet whole for whoever selects and copies.
  let rest = text;
  while (rest) {
    const [at, secret] = [keys.secret_access_key, keys.session_token]
      .map((one) => [rest.indexOf(one), one]).filter(([index]) => index >= 0).sort(([a], [b]) => a - b)[0] ?? [-1, ""];
    if (at < 0) { box.append(rest); break; }
    const span = document.createElement("span");
    span.className = "secret";
    span.textContent = secret;
    box.append(rest.slice(0, at), span);
    rest = rest.slice(at + secret.length);
  }
  panel.querySelectorAll("[data-for-format]").forEach((element) => {
    element.hidden = !element.dataset.forFormat.split(" ").includes(chosen());
  });
}

const chosen = () => panel.querySelector('input[name="format"]:checked').value;

/** As a page says it: the time, and the day where it is another one. */
export function timeIn(zone, at, now) {
  const parts = { timeZone: zone, hourCycle: "h23" };
  const day = (moment) => new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", ...parts }).format(moment);
  const time = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", ...parts }).format(at);
  return day(at) === day(now) ? time : `${day(at)} ${time}`;
}

function inZone(at) {
  try {
    return timeIn(panel.dataset.zone || "UTC", at, serverNow());
  } catch (error) { // a zone this browser has not heard of
    return `${timeIn("UTC", at, serverNow())} UTC`;
  }
}

/** Let go of every reference and every trace on the page. */
function forget() {
  keys = null;
  clearTimeout(endTimer);
  panel.querySelector("[data-keys-text]").replaceChildren();
  panel.querySelector("[data-keys-clock]").removeAttribute("data-countdown");
  veil(true);
}

function gone(why) {
  // New ones would only be refused once the pass itself is over.
  const passOver = why === "over" && Date.parse(keys.expires_at) <= serverNow() + 1000;
  forget();
  panel.querySelectorAll("[data-while-pass]").forEach((element) => { element.hidden = passOver; });
  panel.querySelectorAll("[data-when-pass-over]").forEach((element) => { element.hidden = !passOver; });
  panel.querySelectorAll("[data-gone]").forEach((element) => { element.hidden = element.dataset.gone !== why; });
  phase(panel, "gone");
}

function veil(on) {
  panel.classList.toggle("unveiled", !on);
  const button = panel.querySelector("[data-unveil]");
  button.setAttribute("aria-pressed", String(!on));
}

if (panel) {
  phase(panel, "idle");
  try {
    const format = localStorage.getItem("daypass-format") ?? (/Win/.test(navigator.platform) ? "powershell" : "bash");
    const input = panel.querySelector(`input[name="format"][value="${CSS.escape(format)}"]`);
    if (input) input.checked = true;
  } catch (error) { /* then bash */ }

  panel.addEventListener("click", (event) => {
    if (event.target.closest("[data-get]")) get();
    const copy = event.target.closest("[data-keys-copy]");
    if (copy && keys) copyText(`${FORMATS[chosen()](keys)}\n`, copy);
    const unset = event.target.closest("[data-unset-copy]");
    if (unset) copyText(`${UNSET[chosen()](panel.dataset)}\n`, unset);
    if (event.target.closest("[data-unveil]")) veil(panel.classList.contains("unveiled"));
    if (event.target.closest("[data-forget]")) gone("forgotten");
  });
  panel.addEventListener("change", (event) => {
    if (event.target.name !== "format" || !keys) return;
    write();
    try { localStorage.setItem("daypass-format", event.target.value); } catch (error) { /* no matter */ }
  });
  window.addEventListener("pagehide", () => { if (keys) gone("forgotten"); });
  if (wasPressed("credentials", panel.dataset.code)) get();
}
