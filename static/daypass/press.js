// "Get credentials" on a card is the press; the page it opens need not ask for a second one.
import { rememberPress } from "./delivery.js";

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-press]");
  if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.button) rememberPress(link.dataset.press, link.dataset.code);
});
