// The overview works without this: filters then wait for their button, and no trend is drawn.

const form = document.getElementById("filters");
const TYPING_MS = 350;

/** Submits without the fields that say nothing, so that addresses stay short. */
function submit() {
  const query = new URLSearchParams(
    [...new FormData(form)].filter(([name, value]) => value !== "" && value !== DEFAULTS[name]),
  );
  location.assign(`${form.getAttribute("action")}?${query}`);
}

const DEFAULTS = { sort: "created", order: "desc", size: "25" };
let timer = 0;
form.addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
form.addEventListener("change", (event) => {
  if (event.target.tagName === "SELECT") submit();
});
const search = form.elements.namedItem("name");
search.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(() => {
    sessionStorage.setItem("typing", "name");
    submit();
  }, TYPING_MS);
});
// Who was typing goes on typing.
if (sessionStorage.getItem("typing") === "name") {
  sessionStorage.removeItem("typing");
  search.focus();
  search.setSelectionRange(search.value.length, search.value.length);
}

const trend = document.getElementById("trend");
if (trend) {
  const { drawTrend } = await import("./trend.js");
  await drawTrend(trend);
}
