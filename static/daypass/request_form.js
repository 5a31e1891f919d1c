// The request form: arrow keys through what was found, and the times said as you choose.
import { serverNow, speak } from "./countdown.js";

const form = document.querySelector("[data-request-form]");

form?.addEventListener("keydown", (event) => {
  if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
  const stops = [form.querySelector("[data-find]"), ...form.querySelectorAll(".found a")].filter(Boolean);
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

document.addEventListener("htmx:afterSwap", (event) => {
  event.target.querySelector?.("[data-focus]")?.focus();
  const number = event.target.querySelectorAll?.(".found li a").length;
  if (event.target.id === "found") speak(number ? `${number} found` : "Nothing found");
  fit();
});

document.addEventListener("htmx:sendError", () => speak("Daypass cannot be reached. Check your connection."));

form?.addEventListener("change", fit);
form?.addEventListener("input", fit);

function fit() {
  if (!form) return;
  const terms = form.querySelector("input[name=entitlement]:checked, input[name=entitlement][type=hidden]");
  const longest = Number(terms?.dataset.longest ?? Infinity);
  form.querySelectorAll("[data-minutes]").forEach((choice) => {
    const tooLong = Number(choice.dataset.minutes) > longest;
    choice.hidden = tooLong;
    const input = choice.querySelector("input");
    if (tooLong && input.checked) input.checked = false;
  });
  form.querySelectorAll("[data-outlook]").forEach((outlook) => { outlook.hidden = outlook.dataset.outlook !== terms?.value; });
  const other = form.querySelector("[data-other]");
  const chosen = form.querySelector("input[name=duration]:checked");
  if (other) other.hidden = chosen?.value !== "other";
  const minutes = Number(chosen?.value === "other" ? form.querySelector("[name=duration_other]").value : chosen?.value);
  const words = form.querySelector("[data-ends-about]");
  if (!words) return;
  if (!minutes || minutes < 0) {
    words.textContent = "";
    return;
  }
  const about = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZone: words.dataset.zone });
  const end = about.format(serverNow() + minutes * 60_000);
  words.textContent = `Started now, it would end at ${end}. The clock starts when your access does.`;
}
fit();
