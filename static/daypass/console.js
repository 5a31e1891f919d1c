// Opening the AWS console: a worker signs in and seals the form's fields for this tab; the form is
// posted to AWS's sign-in host from here, so the sign-in token stands in no address and no history.
import { copyText } from "./copy.js";
import { serverNow, speak } from "./countdown.js";
import { deliver, phase, quietProgress, showFailure, wasPressed } from "./delivery.js";

const AT_ONCE = 1000; // a new tab this soon after the press is still the person's own doing
const links = new WeakMap();
const timers = new WeakMap();

async function prepare(panel, { carriedOver = false } = {}) {
  if (panel.dataset.busy) return;
  panel.dataset.busy = "yes";
  const pressedAt = performance.now();
  forget(panel);
  sayWrong(panel, "");
  const progress = quietProgress(panel);
  const asked = [...panel.querySelectorAll("[data-prepare]")];
  asked.forEach((button) => { button.disabled = true; });
  try {
    const destination = panel.querySelector("[name=destination]")?.value.trim() ?? "";
    const link = await deliver(panel, { destination, progress: progress.say });
    progress.stop();
    keep(panel, link);
    phase(panel, "ready");
    const soon = !carriedOver && performance.now() - pressedAt <= AT_ONCE;
    if (soon && (navigator.userActivation?.isActive ?? true)) openForm(panel);
    else {
      panel.querySelector("[data-open-form] button").focus();
      speak("The console is ready to open.");
    }
  } catch (error) {
    progress.stop();
    if (!showRefused(panel, error)) showFailure(panel, error);
  } finally {
    delete panel.dataset.busy;
    asked.forEach((button) => { button.disabled = false; });
  }
}

/** A destination that is refused stays where it was typed, with what is wrong beside it. */
function showRefused(panel, error) {
  const [sentence] = error.fields?.destination ?? [];
  const input = panel.querySelector("[name=destination]");
  if (!sentence || !input) return false;
  phase(panel, "idle");
  sayWrong(panel, sentence);
  input.focus();
  input.select();
  speak(sentence);
  return true;
}

function sayWrong(panel, sentence) {
  const field = panel.querySelector("[data-destination-field]");
  if (!field) return;
  field.classList.toggle("wrong", Boolean(sentence));
  field.querySelector("[data-destination-error]").textContent = sentence;
  field.querySelector(".problem").hidden = !sentence;
  field.querySelector("input").setAttribute("aria-invalid", String(Boolean(sentence)));
}

function keep(panel, link) {
  links.set(panel, link);
  const form = panel.querySelector("[data-open-form]");
  form.action = link.url;
  for (const [name, value] of Object.entries(link.fields)) {
    const input = document.createElement("input");
    input.type = "hidden";
    input.name = name;
    input.value = value;
    input.autocomplete = "off";
    form.append(input);
  }
  panel.querySelector("[data-opened]").hidden = true;
  const left = Date.parse(link.link_expires_at) - serverNow();
  timers.set(panel, setTimeout(() => {
    forget(panel);
    phase(panel, "stale");
  }, Math.min(Math.max(0, left), 2 ** 31 - 1)));
}

function openForm(panel) {
  panel.querySelector("[data-open-form]").requestSubmit();
}

function opened(panel) {
  panel.querySelector("[data-opened]").hidden = false;
  panel.querySelector("[data-open-form] [data-label]").textContent = "Open it again";
  dress(panel, "btn-plain");
  speak("The console opens in a new tab.");
}

function forget(panel) {
  links.delete(panel);
  clearTimeout(timers.get(panel));
  const form = panel.querySelector("[data-open-form]");
  form.querySelectorAll("input").forEach((input) => { input.value = ""; input.remove(); });
  form.removeAttribute("action");
  form.querySelector("[data-label]").textContent = "Open the console";
  dress(panel, "btn-primary");
}

function dress(panel, clothes) {
  const button = panel.querySelector("[data-open-form] button");
  button.classList.remove("btn-primary", "btn-plain");
  button.classList.add(clothes);
}

function address({ url, fields }) {
  return `${url}?${new URLSearchParams(fields)}`;
}

document.querySelectorAll('[data-delivery][data-kind="console"]').forEach((panel) => {
  phase(panel, "idle");
  panel.addEventListener("click", (event) => {
    if (event.target.closest("[data-prepare]")) prepare(panel);
    const copy = event.target.closest("[data-copy-link]");
    if (copy && links.has(panel)) copyText(address(links.get(panel)), copy);
  });
  panel.addEventListener("input", (event) => { // what was said was about what stood there before
    if (event.target.matches("[name=destination]")) sayWrong(panel, "");
  });
  panel.addEventListener("submit", (event) => {
    if (event.target.matches("[data-open-form]")) setTimeout(() => opened(panel));
    if (event.target.matches("[data-destination-form]")) {
      event.preventDefault();
      prepare(panel);
    }
  });
  window.addEventListener("pagehide", () => {
    forget(panel);
    phase(panel, "idle");
  });
  if (panel.hasAttribute("data-page") && wasPressed("console", panel.dataset.code)) prepare(panel, { carriedOver: true });
});

// On a card the same happens in place: one press, and the console is open.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-console]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  const panel = document.getElementById(link.dataset.console);
  if (!panel) return;
  event.preventDefault();
  panel.hidden = false;
  prepare(panel);
});
