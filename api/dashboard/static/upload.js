// @ts-check
// Uploads a program, says how far it is, and goes to the plan.

import { dataOf, element, fieldsOf, find, ours, pageOf } from "./dom.js";

/** @type {Record<string, string>} */
const STAGES = {
  waiting: "waiting for another program to be planned",
  loading: "loading the program",
  lowering: "lowering it for Vulkan",
  planning: "choosing layouts",
  writing: "writing the program",
};
const form = find("upload", HTMLFormElement);
const file = find("file", HTMLInputElement);
const startButton = find("start", HTMLButtonElement);
const progress = find("progress", HTMLProgressElement);
/** @type {XMLHttpRequest | null} */
let running = null; // the request under way
let left = false; // whether the page goes to the plan

/**
 * The query of the request: options that say something, and the file's name.
 * @param {File} chosen
 */
const queryOf = (chosen) => new URLSearchParams([...fieldsOf(form), ["name", chosen.name]]);

/** @param {string} text */
function say(text) {
  if (find("said").textContent !== text) find("said").textContent = text;
}

/** @param {string | null} problem */
function show(problem) {
  find("problem").hidden = problem === null;
  find("problem").textContent = problem ?? "";
  if (problem !== null) find("state").hidden = true;
}

/** @param {number} bytes */
const sizeText = (bytes) =>
  bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;

function start() {
  const chosen = file.files?.[0];
  if (running || !chosen || !form.reportValidity()) return;
  show(null);
  find("state").hidden = false;
  startButton.disabled = true;
  find("stop").hidden = false;
  const request = new XMLHttpRequest();
  const progressId = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
    byte.toString(16).padStart(2, "0"),
  ).join("");
  /** @type {ReturnType<typeof setInterval> | undefined} */
  let clock;
  running = request;
  /** @param {string} [problem] */
  const end = (problem) => {
    clearInterval(clock);
    running = null;
    startButton.disabled = false;
    find("stop").hidden = true;
    if (problem !== undefined) show(problem);
  };
  request.upload.addEventListener("progress", ({ loaded, total }) => {
    progress.value = loaded / total;
    say(`uploading ${chosen.name}: ${Math.floor((100 * loaded) / total)} % of ${sizeText(total)}`);
  });
  request.upload.addEventListener("load", () => {
    progress.removeAttribute("value"); // how far planning is, nobody knows
    say(`planning ${chosen.name} …`);
    find("state").dataset.step = "planning";
    const started = performance.now();
    clock = setInterval(async () => {
      find("state-title").textContent =
        `Progress: planning for ${Math.round((performance.now() - started) / 1000)} s`;
      const stage = await stageOf(progressId);
      if (stage && running === request) say(`planning ${chosen.name}: ${stage} …`);
    }, 1000);
  });
  request.addEventListener("readystatechange", () => {
    // The answer's head says where the plan is; nobody needs its body here.
    if (request.readyState !== XMLHttpRequest.HEADERS_RECEIVED || request.status !== 200) return;
    const id = request.getResponseHeader("Location")?.split("/").pop() ?? "";
    left = true;
    request.abort();
    end();
    say("planned: opening the plan");
    location.assign(pageOf(form, id));
  });
  request.addEventListener("load", () => end(problemOf(request)));
  request.addEventListener("error", () =>
    end("The connection was lost: see that the service runs, and try again."),
  );
  request.addEventListener("abort", () => {
    if (!left) end("Stopped.");
  });
  request.open("POST", `${dataOf(form, "action")}?${queryOf(chosen)}`);
  request.setRequestHeader("Content-Type", "application/octet-stream");
  request.setRequestHeader("Progress-Id", progressId);
  for (const [name, value] of Object.entries(ours())) request.setRequestHeader(name, value);
  request.send(chosen);
}

/**
 * How far planning is, in words; null if that is not to be had just now.
 * @param {string} progressId
 */
async function stageOf(progressId) {
  try {
    const { stage } = await (await fetch(`${dataOf(form, "progress")}/${progressId}`)).json();
    return STAGES[stage] ?? stage ?? null;
  } catch {
    return null;
  }
}

/**
 * What went wrong, in words; undefined if nothing did.
 * @param {XMLHttpRequest} request
 * @returns {string | undefined}
 */
function problemOf(request) {
  if (request.status === 200) return undefined;
  try {
    return JSON.parse(request.responseText).detail;
  } catch {
    return `The service answered with ${request.status}.`;
  }
}

// A file that is let go anywhere on the page is the one to plan.
for (const name of /** @type {const} */ (["dragenter", "dragover"])) {
  addEventListener(name, (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    find("drop").classList.add("over");
  });
}
addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) find("drop").classList.remove("over");
});
addEventListener("drop", (event) => {
  if (!event.dataTransfer?.files.length) return;
  event.preventDefault();
  find("drop").classList.remove("over");
  if (running) return;
  file.files = event.dataTransfer.files;
  start();
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  start();
});
find("stop").addEventListener("click", () => running?.abort());

const profile = find("profile", HTMLSelectElement);
const describe = () => {
  find("profile-text").replaceChildren(
    element("span", {}, dataOf(profile.selectedOptions[0], "description")),
  );
};
profile.addEventListener("change", describe);
describe();

const device = find("device", HTMLSelectElement);
const describeDevice = () => {
  const objective = device.value === "" ? "repack" : "latency";
  find("objective-default").textContent = `by default: ${objective}`;
  find("device-text").hidden = device.value === "";
};
device.addEventListener("change", describeDevice);
describeDevice();
