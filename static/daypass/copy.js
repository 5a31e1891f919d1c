import { speak } from "./countdown.js";

const labels = new WeakMap();

/** Put `text` on the clipboard and say so on the button that asked. */
export async function copyText(text, button) {
  const label = button.querySelector("[data-label]") ?? button;
  if (!labels.has(button)) labels.set(button, label.textContent);
  try {
    await navigator.clipboard.writeText(text);
    label.textContent = "Copied";
  } catch (error) {
    label.textContent = "This browser forbids it: select the text and copy it";
  }
  speak(label.textContent);
  setTimeout(() => { label.textContent = labels.get(button); }, 2500);
}
