// The button says what it does: for how long, also when the approver makes it shorter.
import { spanText } from "./countdown.js";

const shorter = document.querySelector("input[name=shorter]");
const words = document.querySelector("[data-for]");
const asked = words?.textContent;

function say() {
  const minutes = Number(shorter.value);
  words.textContent = minutes > 0 ? `for ${spanText(minutes * 60)}` : asked;
}
if (shorter && words) {
  shorter.addEventListener("input", say);
  say();
}
