// @ts-check
// The API: every request, to read and to try.

import { dataOf, find, ours } from "./dom.js";

/**
 * What is used of Swagger UI, whose script comes before this one.
 * @typedef {(options: Record<string, unknown>) => unknown} SwaggerUI
 * @typedef {{ headers: Record<string, string> }} Request
 * @typedef {object} System
 * @property {{ createElement: (component: unknown) => unknown }} React
 * @property {(name: string, isContainer: boolean) => unknown} getComponent
 */

const dark = matchMedia("(prefers-color-scheme: dark)");

/** Swagger UI is dark where the root has a class; the other pages ask the browser. */
function showTheme() {
  const root = document.documentElement;
  const isDark = root.dataset.theme ? root.dataset.theme === "dark" : dark.matches;
  root.classList.toggle("dark-mode", isDark);
}

showTheme();
addEventListener("themechange", showTheme);
dark.addEventListener("change", showTheme);

/**
 * The requests alone: the page has a heading and a main part of its own.
 * @param {System} system
 */
function requests(system) {
  const { React, getComponent } = system;
  const show = () => React.createElement(getComponent("operations", true));
  return { components: { Requests: show } };
}

const host = find("api");
const swagger = /** @type {{ SwaggerUIBundle: SwaggerUI }} */ (/** @type {unknown} */ (globalThis))
  .SwaggerUIBundle;
swagger({
  url: dataOf(host, "document"),
  domNode: host,
  layout: "Requests",
  plugins: [requests],
  tryItOutEnabled: true,
  // The commands that it shows are for a shell, which needs no token of this page.
  showMutatedRequest: false,
  displayRequestDuration: true,
  // Nothing is asked of other hosts.
  validatorUrl: null,
  /** @param {Request} request */
  requestInterceptor: (request) => {
    Object.assign(request.headers, ours());
    return request;
  },
});
