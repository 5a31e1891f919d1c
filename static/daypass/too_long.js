// What is too long is said while it is typed or pasted, and never cut. It is counted as the server does: characters
// between the first and the last that is no space, a line break as one.
const BOXES = "[data-most-characters]";
const lines = new WeakMap();

function lineOf(box) {
  let line = lines.get(box);
  if (!line?.isConnected) {
    line = document.createElement("div");
    line.className = "too-long";
    line.id = `${box.id || box.name}_too_long`;
    line.setAttribute("role", "status");
    line.hidden = true;
    (box.closest(".flex-container") ?? box).after(line); // in the admin, below label and box
    lines.set(box, line);
  }
  return line;
}

function describe(box, id, described) {
  const ids = new Set((box.getAttribute("aria-describedby") ?? "").split(" ").filter(Boolean));
  if (described) ids.add(id);
  else ids.delete(id);
  if (ids.size) box.setAttribute("aria-describedby", [...ids].join(" "));
  else box.removeAttribute("aria-describedby");
}

function look(box) {
  const most = Number(box.dataset.mostCharacters);
  const over = [...box.value.trim()].length - most;
  if (over <= 0 && !lines.has(box)) return;
  const words = over > 0
    ? `${over.toLocaleString("en")} ${over === 1 ? "character" : "characters"} too many: at most ${most.toLocaleString("en")} fit here. Shorten it.`
    : "";
  const line = lineOf(box);
  line.hidden = !words;
  if (line.textContent !== words) line.textContent = words;
  box.setCustomValidity(words);
  describe(box, line.id, Boolean(words));
}

const lookAtAll = () => document.querySelectorAll(BOXES).forEach(look);
document.addEventListener("input", (event) => { if (event.target.matches(BOXES)) look(event.target); });
document.addEventListener("htmx:afterSwap", lookAtAll); // a box that stayed has lost the line below it
lookAtAll();
