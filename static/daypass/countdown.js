// Counts down to the end of each pass by the server's clock, which may differ from this machine's.
//   <html data-now="…">                         the server's time when the page was made
//   <time data-ends-at="…" data-countdown>      replaced every second; words at 15, 5 and 1 minutes only
//   <span data-in="…">(in 52 min)</span>        kept true, and gone at the end

const SPOKEN = [15, 5, 1];
const AMBER = 15 * 60;

const madeAt = Date.parse(document.documentElement.dataset.now ?? "");
// performance.now() does not jump when someone sets this machine's clock.
const arrivedAt = performance.now() - (performance.getEntriesByType("navigation")[0]?.responseStart ?? 0);
let offset = Number.isNaN(madeAt) ? Date.now() - performance.now() : madeAt - (performance.now() - arrivedAt);

/** The server's time now, in milliseconds. */
export function serverNow() {
  return offset + performance.now();
}

/** Take a newer reading of the server's clock. */
export function setServerNow(iso) {
  const at = Date.parse(iso);
  if (!Number.isNaN(at)) offset = at - performance.now();
}

/** "52:14", "1:02:03", or "3 d 4 h". */
export function clockText(seconds) {
  if (seconds >= 2 * 86400) return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
  const two = (number) => String(number).padStart(2, "0");
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60), seconds % 60];
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** "45 min", "1 h 30 min", "2 d 3 h": as the pages say it, rounded up. */
export function spanText(seconds) {
  const minutes = Math.ceil(seconds / 60);
  const parts = minutes >= 1440
    ? [[Math.floor(minutes / 1440), "d"], [Math.floor(minutes / 60) % 24, "h"]]
    : [[Math.floor(minutes / 60), "h"], [minutes % 60, "min"]];
  return parts.filter(([number]) => number).map(([number, unit]) => `${number}\u00a0${unit}`).join(" ");
}

const spokenFor = new WeakMap();

function show(element) {
  const seconds = Math.max(0, Math.ceil((Date.parse(element.dataset.endsAt) - serverNow()) / 1000));
  element.classList.toggle("soon", seconds > 0 && seconds <= AMBER);
  element.classList.toggle("over", seconds === 0);
  if (seconds === 0) {
    if (element.textContent !== "ended") {
      element.textContent = "ended";
      speak(`${element.dataset.what ?? "Your access"} has ended.`);
      element.dispatchEvent(new CustomEvent("daypass:ended", { bubbles: true }));
    }
    return;
  }
  element.textContent = `${clockText(seconds)} left`;
  announce(element, seconds);
}

function showIn(element) {
  const seconds = Math.max(0, Math.ceil((Date.parse(element.dataset.in) - serverNow()) / 1000));
  const words = seconds ? `(in ${spanText(seconds)})` : "";
  if (element.textContent !== words) element.textContent = words;
}

function announce(element, seconds) {
  const minutes = Math.ceil(seconds / 60);
  const before = spokenFor.get(element) ?? Infinity;
  const due = SPOKEN.find((at) => minutes <= at && before > at);
  // The first look only notes where we are: a page opened at 12 minutes says nothing about 15.
  if (before !== Infinity && due) speak(`${element.dataset.what ?? "Your access"} ends in ${due} ${due === 1 ? "minute" : "minutes"}.`);
  spokenFor.set(element, minutes);
}

/** Say something to screen readers, without moving anything. */
export function speak(words) {
  const region = document.getElementById("spoken");
  if (region) region.textContent = words;
}

function tick() {
  document.querySelectorAll("[data-countdown]").forEach(show);
  document.querySelectorAll("[data-in]").forEach(showIn);
  setTimeout(tick, 1000 - (serverNow() % 1000) + 5);
}

if (document.querySelector("[data-countdown], [data-may-countdown], [data-in]")) tick();

// A card whose time is over says so, and keeps no button that would only refuse.
document.addEventListener("daypass:ended", (event) => {
  const card = event.target.closest("[data-pass]");
  if (!card) return;
  card.classList.replace("tone-green", "tone-grey");
  card.querySelectorAll("[data-while-active]").forEach((element) => { element.hidden = true; });
  card.querySelectorAll("[data-when-over]").forEach((element) => { element.hidden = false; });
});
