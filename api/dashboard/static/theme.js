// @ts-check
// Runs before the page is drawn, so that a chosen theme does not flash.
{
  const THEMES = ["auto", "light", "dark"];
  const root = document.documentElement;
  const read = () => {
    try {
      return localStorage.getItem("theme") ?? "auto";
    } catch {
      return "auto"; // Storage may be switched off.
    }
  };
  /** @param {string} theme */
  const apply = (theme) => {
    if (theme === "auto") delete root.dataset.theme;
    else root.dataset.theme = theme;
  };
  apply(read());
  addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const name = document.getElementById("theme-name");
    if (!button || !name) return;
    let theme = read();
    button.hidden = false;
    name.textContent = theme;
    button.addEventListener("click", () => {
      theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
      name.textContent = theme;
      apply(theme);
      try {
        localStorage.setItem("theme", theme);
      } catch {
        // The choice then lasts as long as the page.
      }
      dispatchEvent(new Event("themechange"));
    });
  });
}
