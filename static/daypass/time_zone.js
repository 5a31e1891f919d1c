// Offers the browser's time zone where its clock shows another time. Only a press changes anything.
const here = Intl.DateTimeFormat().resolvedOptions().timeZone;

document.querySelectorAll("form[data-time-zone]").forEach((offer) => {
  if (!here || agree(here, offer.dataset.timeZone)) return;
  offer.querySelector("[data-browsers]").textContent = here;
  const take = offer.querySelector("[data-take]");
  take.textContent = `Show times in ${here}`;
  take.value = here;
  offer.hidden = false;
});

/** Whether two zones show the same time all year: one may only be an older name of the other. */
function agree(one, other) {
  const now = Date.now();
  const month = 30 * 86400e3;
  try {
    return [...Array(12).keys()].every((n) => clock(one, now + n * month) === clock(other, now + n * month));
  } catch (error) {
    return false; // the browser does not know the other one
  }
}

function clock(timeZone, at) {
  return new Date(at).toLocaleString("en", { timeZone });
}
