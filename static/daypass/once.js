// Back, and pressing again, is the same press: this page's one-time value stays with its place in the history.
const field = document.querySelector("input[data-once]");
if (field) {
  if (history.state?.once) field.value = history.state.once;
  else history.replaceState({ ...history.state, once: field.value }, "");
}
