"use strict";
// Everything on the page can be read without this script; it adds sorting, filtering, saving, copying and the choice of theme.
(() => {
  const root = document.documentElement;
  const THEME = "bangbench-theme";

  // A page opened as a file may be denied storage.
  const remembered = () => {
    try {
      return localStorage.getItem(THEME);
    } catch (error) {
      return null;
    }
  };
  const remember = (theme) => {
    try {
      localStorage.setItem(THEME, theme);
    } catch (error) {
      return;
    }
  };

  // Before anything is drawn, so that the page does not flash.
  const chosen = remembered();
  if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;

  const say = (text) => {
    document.getElementById("status").textContent = text;
  };

  const prepareTheme = () => {
    const button = document.getElementById("theme");
    const system = matchMedia("(prefers-color-scheme: dark)");
    const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
    const show = () => button.setAttribute("aria-pressed", String(isDark()));
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      remember(root.dataset.theme);
      show();
    });
    system.addEventListener("change", show);
    show();
    button.hidden = false;
  };

  // The number of a cell; infinity is one, nothing is null.
  const numberIn = (cell) => {
    const text = cell.dataset.value;
    const value = text === "inf" ? Infinity : text === "-inf" ? -Infinity : Number(text);
    return text === undefined || Number.isNaN(value) ? null : value;
  };

  // Numbers first, then words; what is missing comes last whatever the direction.
  const compare = (first, second, direction) => {
    const numbers = [numberIn(first), numberIn(second)];
    if (numbers[0] !== null && numbers[1] !== null) {
      return numbers[0] === numbers[1] ? 0 : direction * (numbers[0] < numbers[1] ? -1 : 1);
    }
    if (numbers[0] !== null || numbers[1] !== null) return numbers[0] !== null ? -1 : 1;
    const words = [first, second].map((cell) => cell.textContent.trim());
    const missing = words.map((word) => word === "" || word === "\u2013");
    if (missing[0] || missing[1]) return Number(missing[0]) - Number(missing[1]);
    return direction * words[0].localeCompare(words[1], "en", { numeric: true });
  };

  // A tbody is a measured row with the published one and the difference under it: they stay together.
  const sort = (table, header) => {
    const place = header.cellIndex;
    const descending = header.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const units = Array.from(table.tBodies);
    const cell = (unit) => unit.rows[0].cells[place];
    units.sort((first, second) => compare(cell(first), cell(second), descending ? -1 : 1));
    table.append(...units);
  };

  const prepareTable = (table) => {
    if (table.tBodies.length < 2) return;
    for (const header of table.tHead.rows[0].cells) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...header.childNodes);
      button.addEventListener("click", () => sort(table, header));
      header.append(button);
    }
  };

  const offer = (blob, name) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    say(`Saved ${name}`);
  };

  const savePicture = (image, name) => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    canvas.getContext("2d").drawImage(image, 0, 0);
    canvas.toBlob((blob) => offer(blob, name), "image/png");
  };

  const prepareSave = (button) => {
    const image = button.closest("figure").querySelector("img");
    button.addEventListener("click", () => savePicture(image, `${button.dataset.name}.png`));
    button.hidden = false;
  };

  const select = (element) => {
    const range = document.createRange();
    range.selectNodeContents(element);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
  };

  const prepareCopy = (button) => {
    const code = button.parentElement.querySelector("code");
    const copied = () => {
      button.textContent = "Copied";
      say("Copied");
      setTimeout(() => (button.textContent = "Copy"), 2000);
    };
    // Without the right to use the clipboard, the command is selected, ready for the reader's own copy.
    const refused = () => {
      select(code);
      say("Selected; press Ctrl+C to copy");
    };
    button.addEventListener("click", () => {
      if (!navigator.clipboard) refused();
      else navigator.clipboard.writeText(code.textContent).then(copied, refused);
    });
    button.hidden = false;
  };

  // What is folded opens where a link leads into it.
  const unfold = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
    if (target) target.scrollIntoView();
  };

  // Lines and reasons of models whose name or verdict holds every word.
  const prepareFilter = () => {
    const field = document.getElementById("filter");
    const parts = Array.from(document.querySelectorAll("[data-model]"));
    const lines = parts.filter((part) => part.tagName === "TR");
    const show = () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const part of parts) {
        const badge = part.querySelector(".badge");
        const text = `${part.dataset.model} ${part.dataset.verdict} ${badge ? badge.textContent : ""}`.toLowerCase();
        part.hidden = !words.every((word) => text.includes(word));
      }
      const left = lines.filter((line) => !line.hidden).length;
      field.closest("p").querySelector(".found").textContent = words.length ? `${left} of ${lines.length} models` : "";
    };
    field.addEventListener("input", show);
    field.closest("p").hidden = false;
  };

  const prepareContents = () => {
    const links = new Map();
    for (const link of document.querySelectorAll("nav a")) {
      links.set(document.getElementById(decodeURIComponent(link.hash.slice(1))), link);
    }
    const watch = new IntersectionObserver(
      (entries) => {
        const entry = entries.find((item) => item.isIntersecting);
        if (!entry) return;
        for (const link of links.values()) link.removeAttribute("aria-current");
        links.get(entry.target).setAttribute("aria-current", "true");
      },
      { rootMargin: "0px 0px -70% 0px" },
    );
    for (const heading of links.keys()) watch.observe(heading);
  };

  document.addEventListener("DOMContentLoaded", () => {
    prepareTheme();
    document.querySelectorAll("table").forEach(prepareTable);
    prepareFilter();
    addEventListener("hashchange", unfold);
    if (location.hash) unfold();
    document.querySelectorAll("[data-save]").forEach(prepareSave);
    document.querySelectorAll("[data-copy]").forEach(prepareCopy);
    prepareContents();
  });
})();
