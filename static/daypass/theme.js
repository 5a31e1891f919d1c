// Runs before the first paint, so that a chosen theme never flashes. No module: those are deferred.
(function () {
  "use strict";
  var root = document.documentElement;
  root.setAttribute("data-js", "");

  // The admin's own switch keeps its choice under this name too.
  function chosen() {
    try {
      var value = window.localStorage.getItem("theme");
      return value === "light" || value === "dark" ? value : "auto";
    } catch (error) {
      return "auto"; // storage may be forbidden; the system's choice is a good one
    }
  }

  function apply(value) {
    if (value === "auto") root.removeAttribute("data-bs-theme");
    else root.setAttribute("data-bs-theme", value);
  }

  apply(chosen());

  document.addEventListener("DOMContentLoaded", function () {
    var current = document.querySelector('input[name="theme"][value="' + chosen() + '"]');
    if (current) current.checked = true;
  });
  document.addEventListener("change", function (event) {
    if (event.target.name !== "theme") return;
    try {
      window.localStorage.setItem("theme", event.target.value);
    } catch (error) { /* then it holds for this page */ }
    apply(event.target.value);
  });
})();
