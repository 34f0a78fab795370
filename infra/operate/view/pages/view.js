// Pages are complete without this script. It updates them on changes, and adds keyboard shortcuts.
"use strict";

const parser = new DOMParser();
const shown = new Map(); // the server's latest version of each part, by its id
for (const part of document.querySelectorAll("[data-live]")) shown.set(part.id, part.innerHTML);

let isFetching = false;
let isOutdated = false;

async function refresh() {
  isOutdated = true;
  if (isFetching) return;
  isFetching = true;
  try {
    while (isOutdated) {
      isOutdated = false;
      const response = await fetch(location.href);
      const text = await response.text();
      if (response.ok && !isOutdated) swap(parser.parseFromString(text, "text/html"));
    }
  } catch {
    document.getElementById("offline").hidden = false;
  } finally {
    isFetching = false;
  }
}

function swap(page) {
  for (const part of document.querySelectorAll("[data-live]")) {
    const fresh = page.getElementById(part.id);
    if (!fresh || fresh.innerHTML === shown.get(part.id)) continue;
    shown.set(part.id, fresh.innerHTML);
    const before = new Set(links(part).map((link) => link.href));
    const focused = part.contains(document.activeElement) ? document.activeElement.href : null;
    part.replaceChildren(...fresh.childNodes);
    for (const link of links(part)) {
      if (before.size && !before.has(link.href)) link.closest("tr").classList.add("new");
      if (focused && link.href === focused) link.focus({ preventScroll: true });
    }
  }
}

function links(part) {
  return [...part.querySelectorAll("tbody a")];
}

let changes;

function follow() {
  changes = new EventSource("/changes");
  changes.onmessage = refresh;
  changes.onopen = () => { document.getElementById("offline").hidden = true; };
  changes.onerror = () => { document.getElementById("offline").hidden = false; };
}

// A browser has six connections for all its tabs, so hidden tabs use none.
document.addEventListener("visibilitychange", () => {
  changes?.close();
  if (!document.hidden) follow();
});
if (!document.hidden) follow();

// A stored photo that cannot be shown is replaced by the link, and that by its address.
document.addEventListener("error", (event) => { if (event.target.tagName === "IMG") showAddress(event.target); }, true);
for (const image of document.images) if (image.complete && !image.naturalWidth) showAddress(image);

function showAddress(image) {
  if (image.closest(".thumbnail")) {
    image.remove();
    return;
  }
  const link = image.dataset.link;
  if (link) {
    delete image.dataset.link;
    image.referrerPolicy = "no-referrer";
    image.src = link;
  } else {
    image.replaceWith(`${image.alt} cannot be loaded: ${image.src}`);
  }
}

const search = document.getElementById("search");
if (search) {
  search.form.addEventListener("submit", (event) => event.preventDefault());
  search.addEventListener("input", () => {
    const query = new URLSearchParams(new FormData(search.form));
    if (!search.value) query.delete("q");
    history.replaceState(null, "", query.size ? `${location.pathname}?${query}` : location.pathname);
    refresh();
  });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const isTyping = event.target === search;
  // The search field gets all characters, except for "/" while it is empty: it remains a shortcut.
  const key = isTyping && event.key.length === 1 && search.value + event.key !== "/" ? "" : event.key;
  if (key === "/" && search) {
    search.focus();
    search.select();
  } else if (key === "Escape") {
    if (!search) location.href = document.referrer.startsWith(location.origin) ? document.referrer : back();
    else if (search.value) {
      search.value = "";
      search.dispatchEvent(new Event("input"));
      search.focus();
    }
  } else if (key === "ArrowDown" || key === "j") {
    step(1);
  } else if (key === "ArrowUp" || key === "k") {
    step(-1);
  } else if (key === "Enter" && isTyping) {
    links(document)[0]?.click();
  } else {
    return;
  }
  event.preventDefault();
});

function back() {
  return document.querySelector("a.back")?.href ?? "/";
}

function step(by) {
  const all = links(document);
  if (!all.length) {
    scrollBy(0, by * 80);
    return;
  }
  const next = all.indexOf(document.activeElement) + by;
  if (next < 0) search.focus();
  else all[Math.min(next, all.length - 1)].focus();
}
