// @ts-check
// Elements of the page: those that it has, and those that scripts make.

/** @typedef {string | number | boolean | undefined | ((event: MouseEvent) => void)} Attribute */

/**
 * The page's element of an id; throws where there is none of that kind.
 * @template {HTMLElement} [T=HTMLElement]
 * @param {string} id
 * @param {new () => T} [kind]
 * @returns {T}
 */
export function find(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof (kind ?? HTMLElement))) throw new Error(`the page has no such #${id}`);
  return /** @type {T} */ (found);
}

/**
 * A value that the page's template wrote beside an element; throws where it is missing.
 * @param {HTMLElement} host
 * @param {string} name
 */
export function dataOf(host, name) {
  const value = host.dataset[name];
  if (value === undefined) throw new Error(`#${host.id} has no ${name}`);
  return value;
}

/**
 * Headers that say that a request is this page's: those that change something need them.
 * @returns {Record<string, string>}
 */
export function ours() {
  const meta = document.querySelector("meta[name=form-token]");
  return { "Form-Token": meta?.getAttribute("content") ?? "" };
}

/**
 * The address of a page of one thing: the template writes it with a line for the id.
 * @param {HTMLElement} host
 * @param {string} id
 */
export function pageOf(host, id) {
  return dataOf(host, "page").replace(/_$/, encodeURIComponent(id));
}

/**
 * The fields of a form that say something, but no files.
 * @param {HTMLFormElement} form
 * @returns {[name: string, value: string][]}
 */
export function fieldsOf(form) {
  return [...new FormData(form)].flatMap(([name, value]) =>
    typeof value === "string" && value !== "" ? [[name, value]] : [],
  );
}

/**
 * An element with attributes and children; text is text, never markup.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, Attribute>} attributes
 * @param {(string | Node)[]} children
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") {
      made.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    } else if (value !== undefined && value !== false) {
      made.setAttribute(name, value === true ? "" : String(value));
    }
  }
  made.append(...children);
  return made;
}
