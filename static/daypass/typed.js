// What was typed survives a press that did not count: signed out meanwhile, or a page from before another sign-in.
// It is kept in this tab alone, for the person who typed it, and never sent by itself. Never kept: passwords, codes,
// files, and hidden fields, the form's token among them.

const KEPT = "daypass-typed";
const LONGEST = 12 * 60 * 60 * 1000; // as long as a sign-in
const SECRET = /passw|(^|[-_])(code|otp|token|secret|key)$/i;
const SECRET_KINDS = ["one-time-code", "current-password", "new-password"];
const TICKED = ["checkbox", "radio"];
const NOT_TYPED = ["hidden", "password", "file", "submit", "button", "reset", "image"];

const meta = document.querySelector("meta[name=daypass-reader]");
const reader = meta?.content ?? "";

// --- what is kept -----------------------------------------------------------------------------------

const forms = () => [...document.querySelectorAll("form[method=post], form[data-typed]")].filter((form) => form.target !== "_blank");
const address = (at) => new URL(at, location.href).href.split("#")[0];
// A form that was brought into the page knows better where it is shown.
const here = () => address(document.querySelector("form [name=page]")?.value ?? location.href);
const same = (a, b) => a.getAttribute("action") === b.getAttribute("action");

function isKept(field) {
  if (!field.name || NOT_TYPED.includes(field.type)) return false;
  if (TICKED.includes(field.type)) return true;
  return !SECRET.test(field.name) && !SECRET_KINDS.some((kind) => field.autocomplete?.includes(kind));
}

const fieldsOf = (form) => [...form.elements].filter((field) => /^(INPUT|TEXTAREA|SELECT)$/.test(field.tagName) && isKept(field));

function isChanged(field) {
  if (TICKED.includes(field.type)) return field.checked !== field.defaultChecked;
  if (field.tagName !== "SELECT") return field.value !== field.defaultValue;
  const options = [...field.options];
  if (field.type === "select-one" && !options.some((option) => option.defaultSelected)) return field.selectedIndex > 0;
  return options.some((option) => option.selected !== option.defaultSelected);
}

const isRefused = (form) => form.querySelector(".problem:not([hidden]), .errorlist") !== null;
// In the admin somebody else may have changed the same record meanwhile: only what was typed here is put over it.
const onlyChanged = (form) => document.body.classList.contains("change-form") && !isRefused(form);

function valueOf(field) {
  if (TICKED.includes(field.type)) return { value: field.value, ticked: field.checked };
  if (field.tagName === "SELECT") return { chosen: [...field.selectedOptions].map((option) => [option.value, option.text]) };
  return { text: field.value };
}

function read(form) {
  const fields = fieldsOf(form).filter((field) => !onlyChanged(form) || isChanged(field));
  const action = form.getAttribute("action");
  const number = forms().filter((other) => same(other, form)).indexOf(form);
  return { action, number, rows: rowsOf(form), fields: fields.map((field) => ({ name: field.name, ...valueOf(field) })) };
}

function keep(pressed, said = "") {
  if (!reader) return;
  const filled = forms().filter((form) => form === pressed || isRefused(form) || fieldsOf(form).some(isChanged));
  store({ reader, page: here(), at: Date.now(), said, forms: filled.map(read) });
}

function store(kept) {
  try { sessionStorage.setItem(KEPT, JSON.stringify(kept)); } catch (error) { /* then it is typed again */ }
}
function forget() {
  try { sessionStorage.removeItem(KEPT); } catch (error) { /* nothing was kept */ }
}
function stored() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(KEPT) ?? "null");
    return kept && Date.now() - kept.at < LONGEST ? kept : null;
  } catch (error) {
    return null;
  }
}

// --- and put back -----------------------------------------------------------------------------------

/** The rows of the admin's formsets: how many there are, and of which record each is. */
function rowsOf(form) {
  const rows = [...form.elements].filter((field) => field.type === "hidden" && /-(TOTAL_FORMS|id)$/.test(field.name));
  return Object.fromEntries(rows.map((field) => [field.name, field.value]));
}

function addRows(form, rows) {
  for (const [name, value] of Object.entries(rows)) {
    const total = name.endsWith("-TOTAL_FORMS") && form.elements[name];
    const add = total && document.querySelector(`#${CSS.escape(name.replace(/-TOTAL_FORMS$/, ""))}-group .add-row a`);
    for (let tries = Number(value) - Number(total?.value); add && tries > 0; tries -= 1) add.click();
  }
}

function isOfAnotherRecord(form, rows, name) {
  const id = name.replace(/^(.+-\d+)-[^-]+$/, "$1-id");
  return id in rows && rows[id] !== (form.elements[id]?.value ?? "");
}

function fill(form, { rows, fields }) {
  addRows(form, rows);
  const filled = [];
  const texts = {};
  for (const { name, ...kept } of fields) {
    if (isOfAnotherRecord(form, rows, name)) continue;
    const named = fieldsOf(form).filter((field) => field.name === name);
    let field;
    if ("text" in kept) {
      texts[name] = (texts[name] ?? -1) + 1;
      field = named.filter((one) => one.tagName !== "SELECT" && !TICKED.includes(one.type))[texts[name]];
    } else field = named.find((one) => ("chosen" in kept ? one.tagName === "SELECT" : TICKED.includes(one.type) && one.value === kept.value));
    if (!field || !put(field, kept)) continue;
    filled.push(field);
  }
  filled.forEach(announce);
  return filled;
}

/** Whether that changed anything. */
function put(field, { text, ticked, chosen }) {
  const before = JSON.stringify(valueOf(field));
  if (text !== undefined) field.value = text;
  else if (ticked !== undefined) field.checked = ticked;
  else choose(field, chosen);
  return JSON.stringify(valueOf(field)) !== before;
}

function choose(field, chosen) {
  const values = new Set(chosen.map(([value]) => value));
  const others = document.getElementById(field.id.replace(/_to$/, "_from"));
  if (field.id.endsWith("_to") && others && window.SelectBox) { // the admin's two lists, one beside the other
    [...others.options].forEach((option) => { option.selected = values.has(option.value); });
    window.SelectBox.move(others.id, field.id);
    [...field.options].forEach((option) => { option.selected = !values.has(option.value); });
    window.SelectBox.move(field.id, others.id);
    [...field.options].forEach((option) => { option.selected = true; });
    return;
  }
  for (const [value, words] of chosen) { // what was found by typing is no option of a fresh page
    if (![...field.options].some((option) => option.value === value)) field.append(new Option(words, value));
  }
  [...field.options].forEach((option) => { option.selected = values.has(option.value); });
}

function announce(field) {
  field.dispatchEvent(new Event("input", { bubbles: true }));
  field.dispatchEvent(new Event("change", { bubbles: true }));
  for (let fold = field.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
}

function putBack(kept) {
  const filled = kept.forms.flatMap((one) => {
    const form = forms().filter((other) => other.getAttribute("action") === one.action)[one.number];
    return form ? fill(form, one) : [];
  });
  tell(`${kept.said} ${filled.length
    ? "What you typed is here again: look at it, and press again."
    : "This is the page as it is now: look at it, and press again if you still mean it."}`);
}

// --- each page, as it arrives -------------------------------------------------------------------------

function arrive() {
  const kept = stored();
  if (!kept) return forget();
  if (reader && reader !== kept.reader) return forget();
  const refused = document.querySelector("[data-nothing-done]");
  if (refused) {
    store({ ...kept, said: refused.textContent.trim().replace(/\s+/g, " ") });
    const back = document.querySelector("[data-back]");
    if (reader && back && address(back.href) === kept.page) location.replace(back.href);
    return undefined;
  }
  if (!reader) return undefined; // signing in
  if (!kept.said) return forget(); // it counted
  if (here() !== kept.page) return undefined;
  forget();
  return putBack(kept);
}

// After every other script has made the page what it is.
if (document.readyState === "complete") setTimeout(arrive);
else window.addEventListener("load", () => setTimeout(arrive));

document.addEventListener("submit", (event) => {
  if (!event.defaultPrevented && forms().includes(event.target)) keep(event.target);
});

// --- what a page asks by itself -----------------------------------------------------------------------

export const SIGNED_OUT = "You were signed out. Nothing was done.";

let told = null;

function tell(words, ...more) {
  told?.remove();
  const inAdmin = document.querySelector("#content-start, #content");
  told = document.createElement(inAdmin ? "ul" : "div");
  told.className = inAdmin ? "messagelist" : "notice tone-amber field";
  told.setAttribute("role", "alert");
  const line = document.createElement(inAdmin ? "li" : "p");
  if (inAdmin) line.className = "warning";
  line.append(words, ...more);
  told.append(line);
  (inAdmin ?? document.querySelector("main .wrap") ?? document.body).prepend(told);
  told.scrollIntoView({ block: "center" });
}

/** Say that one was signed out, with a way back to this page and to what is typed on it. */
export function saySignedOut() {
  if (told?.isConnected && told.querySelector("[data-sign-in]")) return;
  const link = document.createElement("a");
  link.textContent = "Sign in again";
  signInBy(link);
  tell(`${SIGNED_OUT} `, link, ": you come back to this page, and to what you typed.");
}

/** Make a link the way to the sign-in and back; what is typed comes along. */
export function signInBy(link) {
  const at = new URL(here());
  link.href = `${meta?.dataset.signIn}?next=${encodeURIComponent(at.pathname + at.search)}`;
  link.dataset.signIn = "";
}

// [data-sign-in] leads to the sign-in, [data-again] loads this page anew; both bring back what is typed.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-sign-in], a[data-again]");
  if (link) keep(null, "again" in link.dataset ? "This page was loaded again, and nothing was done." : SIGNED_OUT);
});

document.addEventListener("htmx:responseError", (event) => {
  if (event.detail.xhr.status === 401) saySignedOut();
});
document.addEventListener("htmx:afterRequest", (event) => { // signed in again, in another tab
  if (event.detail.successful && told?.querySelector("[data-sign-in]")) told.remove();
});
window.addEventListener("load", () => {
  const jQuery = window.django?.jQuery; // the admin's own
  jQuery?.(document).on("ajaxError", (event, xhr) => { if (xhr.status === 401) saySignedOut(); });
});
