// The request form: arrow keys through what was found, and only what the chosen terms ask for.
import { speak } from "./countdown.js";

const form = document.querySelector("[data-request-form]");

form?.addEventListener("keydown", (event) => {
  if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
  const stops = [form.querySelector("[data-find]"), ...shown(".found a, .found summary")].filter(Boolean);
  const at = stops.indexOf(document.activeElement);
  if (at < 0) return;
  event.preventDefault();
  stops[Math.min(Math.max(at + (event.key === "ArrowDown" ? 1 : -1), 0), stops.length - 1)].focus();
});

// Enter in the search box searches; it does not ask for access.
form?.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.target.matches("[data-find]")) {
    event.preventDefault();
    form.querySelector(".found a")?.focus();
  }
});

// Not what is folded away.
function shown(selector) {
  return [...form.querySelectorAll(selector)].filter((element) => element.getClientRects().length);
}

document.addEventListener("htmx:afterSwap", (event) => {
  event.target.querySelector?.("[data-focus]")?.focus();
  if (event.target.id === "found") {
    const number = shown("#found .found a, #found .found summary").length;
    speak(number ? `${number} found` : "Nothing found");
    // What was pressed is gone; the next is the first of what came.
    if (event.detail.requestConfig?.elt?.matches("[data-browse]")) shown("#found .found a, #found .found summary")[0]?.focus();
  }
  fit();
});

document.addEventListener("htmx:sendError", () => speak("Daypass cannot be reached. Check your connection."));

// A length that the person chose stays when the terms change; what was only offered follows them.
let chosenByHand = false;
form?.addEventListener("change", (event) => {
  if (event.target.name === "duration") chosenByHand = true;
  if (event.target.name === "entitlement" && !chosenByHand) offer(event.target);
  fit();
});
form?.addEventListener("input", fit);

const terms = () => form.querySelector("input[name=entitlement]:checked");

function offer(chosen) {
  const usual = form.querySelector(`input[name=duration][value="${chosen.dataset.usual}"]`);
  if (usual) usual.checked = true;
}

function fit() {
  const chosen = form && terms();
  if (!chosen) return;
  form.querySelectorAll("[data-of]").forEach((words) => { words.hidden = words.dataset.of !== chosen.value; });
  form.querySelectorAll("[data-minutes]").forEach((choice) => {
    choice.hidden = Number(choice.dataset.minutes) > Number(chosen.dataset.longest);
    const input = choice.querySelector("input");
    if (choice.hidden && input.checked) offer(chosen);
  });
  const ahead = "ahead" in chosen.dataset;
  form.querySelectorAll("[data-ahead-only]").forEach((choice) => {
    choice.hidden = !ahead;
    const input = choice.querySelector("input");
    if (!ahead && input.checked) form.querySelector("input[name=start]").checked = true;
  });
  toggle("[data-when]", form.querySelector("input[name=start]:checked")?.value === "at_time");
  toggle("[data-other]", form.querySelector("input[name=duration]:checked")?.value === "other");
  toggle("[data-ticket-field]", chosen.dataset.ticket !== "none");
  form.querySelectorAll("[data-ticket-field] .optional").forEach((words) => { words.hidden = chosen.dataset.ticket === "required"; });
}

function toggle(selector, shown) {
  const element = form.querySelector(selector);
  if (element) element.hidden = !shown;
}
fit();
