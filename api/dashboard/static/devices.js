// @ts-check
// Adds a device, and goes to its page.

import { dataOf, fieldsOf, find, ours, pageOf } from "./dom.js";

const form = find("add", HTMLFormElement);

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  /** @type {Record<string, string | number>} */
  const device = Object.fromEntries(fieldsOf(form));
  if (device.buffer_limit !== undefined) device.buffer_limit = Number(device.buffer_limit);
  const answer = await fetch(dataOf(form, "action"), {
    method: "POST",
    headers: { "Content-Type": "application/json", ...ours() },
    body: JSON.stringify(device),
  });
  const { name, detail } = await answer.json();
  if (answer.ok) location.assign(pageOf(form, name));
  find("problem").hidden = answer.ok;
  find("problem").textContent = detail ?? "";
});
