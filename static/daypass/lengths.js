// How much longer: the field for minutes is there when they are to be typed.
const form = document.querySelector("[data-lengths]");

function fit() {
  form.querySelector("[data-other]").hidden = form.querySelector("input[name=duration]:checked")?.value !== "other";
}
form?.addEventListener("change", fit);
if (form) fit();
