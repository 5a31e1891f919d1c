// The approvals page keeps itself true without ever taking away what someone is doing:
// a row with the focus, a tick or typed text is not replaced, it only gets a note.
import { speak } from "./countdown.js";

const inUse = (row) => row.contains(document.activeElement) && document.activeElement !== document.body
  || [...row.querySelectorAll("input[type=checkbox]")].some((box) => box.checked)
  || [...row.querySelectorAll("textarea, input[type=text]")].some((box) => box.value !== box.defaultValue);

document.addEventListener("htmx:oobBeforeSwap", (event) => {
  const row = event.detail.target;
  if (!row?.matches("[data-row]") || !inUse(row)) return;
  event.detail.shouldSwap = false;
  const note = row.querySelector("[data-row-note]");
  const words = event.detail.fragment?.querySelector?.("[data-outcome]")?.textContent.trim() ?? "Decided elsewhere meanwhile.";
  if (note && note.hidden) {
    note.querySelector("[data-words]").textContent = words;
    note.hidden = false;
    speak(words);
  }
});

// --- a lost network is said plainly ---------------------------------------------------------------
const lost = document.querySelector("[data-lost]");
function say(words) {
  if (!lost) return;
  lost.hidden = !words;
  const place = lost.querySelector("[data-words]");
  if (place.textContent !== words) {
    place.textContent = words;
    if (words) speak(words);
  }
}
const since = () => document.querySelector("[data-as-of]")?.textContent ?? "";
document.addEventListener("htmx:sendError", () => say(`Daypass cannot be reached. This page shows how things stood at ${since()}; it tries again by itself.`));
document.addEventListener("htmx:timeout", () => say(`Daypass does not answer. This page shows how things stood at ${since()}; it tries again by itself.`));
document.addEventListener("htmx:responseError", (event) => {
  if (event.detail.xhr.status === 401) return; // said on every page, by typed.js
  say(`Daypass answered with an error. This page shows how things stood at ${since()}; it tries again by itself.`);
});
document.addEventListener("htmx:afterOnLoad", () => say(""));

// --- several at once --------------------------------------------------------------------------------
const bulk = document.querySelector("[data-bulk]");
function count() {
  const number = document.querySelectorAll("input[name=code]:checked").length;
  bulk.querySelector("[data-number]").textContent = number === 0 ? "Tick what you want to decide together" : `${number} ticked`;
  bulk.querySelectorAll("button").forEach((button) => { button.disabled = number === 0; });
}
if (bulk) {
  document.addEventListener("change", (event) => { if (event.target.name === "code") count(); });
  window.addEventListener("pageshow", count);
  count();
}
