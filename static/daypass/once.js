// Back, and pressing again, is the same press: this page's one-time value stays with its place in the history.
const field = document.querySelector("input[name=once]");
// A page that was loaded anew on purpose is a new one: after a denial the same may be asked for again.
const reloaded = performance.getEntriesByType("navigation")[0]?.type === "reload";
const keep = () => history.replaceState({ once: field.value }, "");
if (field) {
  if (!("once" in field.dataset)) { /* a form that came back: it knows which value it is to send */ }
  else if (history.state?.once && !reloaded) field.value = history.state.once;
  else keep();
  // htmx writes a state of its own; with that, a way back inside the page would load it anew.
  document.addEventListener("htmx:replacedInHistory", keep);
}
