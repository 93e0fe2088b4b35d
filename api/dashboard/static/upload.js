// Uploads a program, says how far it is, and goes to the plan.

import { element } from "./text.js";

const STAGES = {
  waiting: "waiting for another program to be planned",
  loading: "loading the program",
  lowering: "lowering it for Vulkan",
  planning: "choosing layouts",
  writing: "writing the program",
};
const find = (id) => document.getElementById(id);
const form = find("upload");
const file = find("file");
let running = null; // the request under way
let left = false; // whether the page goes to the plan

/** The query of the request: options that say something, and the file's name. */
function queryOf(chosen) {
  const options = [...new FormData(form)].filter(([, value]) => value !== "");
  return new URLSearchParams([...options, ["name", chosen.name]]);
}

function say(text) {
  if (find("said").textContent !== text) find("said").textContent = text;
}

function show(problem) {
  find("problem").hidden = problem === null;
  find("problem").textContent = problem ?? "";
  if (problem !== null) find("state").hidden = true;
}

const sizeText = (bytes) => (bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

function start() {
  const [chosen] = file.files;
  if (running || !chosen || !form.reportValidity()) return;
  show(null);
  find("state").hidden = false;
  find("start").disabled = true;
  find("stop").hidden = false;
  const request = new XMLHttpRequest();
  const progressId = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  running = request;
  const end = (problem) => {
    clearInterval(request.clock);
    running = null;
    find("start").disabled = false;
    find("stop").hidden = true;
    if (problem !== undefined) show(problem);
  };
  request.upload.addEventListener("progress", ({ loaded, total }) => {
    find("progress").value = loaded / total;
    say(`uploading ${chosen.name}: ${Math.floor((100 * loaded) / total)} % of ${sizeText(total)}`);
  });
  request.upload.addEventListener("load", () => {
    find("progress").removeAttribute("value"); // how far planning is, nobody knows
    say(`planning ${chosen.name} …`);
    find("state").dataset.step = "planning";
    const started = performance.now();
    request.clock = setInterval(async () => {
      find("state-title").textContent = `Progress: planning for ${Math.round((performance.now() - started) / 1000)} s`;
      const stage = await stageOf(progressId);
      if (stage && running === request) say(`planning ${chosen.name}: ${stage} …`);
    }, 1000);
  });
  request.addEventListener("readystatechange", () => {
    // The answer's head says where the plan is; nobody needs its body here.
    if (request.readyState !== XMLHttpRequest.HEADERS_RECEIVED || request.status !== 200) return;
    const id = request.getResponseHeader("Location").split("/").pop();
    left = true;
    request.abort();
    end();
    say("planned: opening the plan");
    location.assign(form.dataset.page.replace(/_$/, encodeURIComponent(id)));
  });
  request.addEventListener("load", () => end(problemOf(request)));
  request.addEventListener("error", () => end("The connection was lost: see that the service runs, and try again."));
  request.addEventListener("abort", () => left || end("Stopped."));
  request.open("POST", `${form.dataset.action}?${queryOf(chosen)}`);
  request.setRequestHeader("Content-Type", "application/octet-stream");
  request.setRequestHeader("Progress-Id", progressId);
  request.send(chosen);
}

/** How far planning is, in words; null if that is not to be had just now. */
async function stageOf(progressId) {
  try {
    const { stage } = await (await fetch(`${form.dataset.progress}/${progressId}`)).json();
    return STAGES[stage] ?? stage ?? null;
  } catch {
    return null;
  }
}

function problemOf(request) {
  if (request.status === 200) return undefined;
  try {
    return JSON.parse(request.responseText).detail;
  } catch {
    return `The service answered with ${request.status}.`;
  }
}

/** A file that is let go anywhere on the page is the one to plan. */
for (const name of ["dragenter", "dragover"]) {
  addEventListener(name, (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    find("drop").classList.add("over");
  });
}
addEventListener("dragleave", (event) => event.relatedTarget === null && find("drop").classList.remove("over"));
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

const profile = find("profile");
const describe = () => {
  find("profile-text").replaceChildren(element("span", {}, profile.selectedOptions[0].dataset.description));
};
profile.addEventListener("change", describe);
describe();
