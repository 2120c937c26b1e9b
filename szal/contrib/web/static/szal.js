// What the pages do beyond links and forms: they bring themselves up to date, show times in the browser's zone, and
// check JSON before it is sent. Without it all else works.
"use strict";
(() => {
  const pad = (number) => String(number).padStart(2, "0");

  function localise(root) {
    for (const time of root.querySelectorAll("time[datetime]")) {
      const moment = new Date(time.dateTime);
      if (Number.isNaN(moment.getTime())) continue;
      const day = `${moment.getFullYear()}-${pad(moment.getMonth() + 1)}-${pad(moment.getDate())}`;
      time.textContent = `${day} ${pad(moment.getHours())}:${pad(moment.getMinutes())}:${pad(moment.getSeconds())}`;
    }
  }

  // -- JSON that is typed ---------------------------------------------------------------------------

  function check(area) {
    let problem = "";
    if (area.value.trim()) {
      try {
        JSON.parse(area.value);
      } catch (error) {
        problem = `That is no JSON: ${error.message}. A text stands in double quotes.`;
      }
    }
    area.setCustomValidity(problem);
  }
  document.addEventListener("input", (event) => {
    if (event.target.matches?.("textarea[data-json]")) check(event.target);
  });

  // -- what is selected -----------------------------------------------------------------------------

  const picks = () => [...document.querySelectorAll('input[name="id"]')];

  function showPicks() {
    const all = document.getElementById("all");
    const chosen = picks().filter((pick) => pick.checked).length;
    if (all) {
      all.hidden = false;
      all.checked = chosen > 0 && chosen === picks().length;
      all.indeterminate = chosen > 0 && !all.checked;
    }
    for (const button of document.querySelectorAll("button[formaction]")) button.disabled = chosen === 0;
  }
  document.addEventListener("change", (event) => {
    if (event.target.id === "all") for (const pick of picks()) pick.checked = event.target.checked;
    if (event.target.id === "all" || event.target.name === "id") showPicks();
  });

  // -- what changes by itself -----------------------------------------------------------------------

  // A part in which somebody types or has selected something stays as it is until that is over.
  function isInUse(part) {
    const active = document.activeElement;
    if (part.contains(active) && active.matches("input, textarea, select")) return true;
    const typed = [...part.querySelectorAll("textarea, input:not([type=hidden]):not([type=checkbox])")];
    if (typed.some((field) => field.value !== field.defaultValue)) return true;
    const selection = document.getSelection();
    return Boolean(selection && !selection.isCollapsed && part.contains(selection.anchorNode));
  }

  // Tokens and ids in hidden fields are new each time: they are no change.
  const said = (part) => part.innerHTML.replace(/<input type="hidden"[^>]*>/g, "");

  function replace(part, fresh) {
    const now = said(fresh);
    if (seen.get(part) === now || isInUse(part)) return;
    seen.set(part, now);
    const open = new Map([...part.querySelectorAll("details[id]")].map((each) => [each.id, each.open]));
    const picked = new Set(picks().filter((pick) => pick.checked).map((pick) => pick.value));
    const active = document.activeElement;
    const focused = part.contains(active) ? [...part.querySelectorAll("a, button, summary")].indexOf(active) : -1;
    part.innerHTML = fresh.innerHTML; // of our own server, escaped there
    for (const each of part.querySelectorAll("details[id]")) if (open.has(each.id)) each.open = open.get(each.id);
    for (const pick of picks()) pick.checked = picked.has(pick.value);
    localise(part);
    showPicks();
    if (focused >= 0) part.querySelectorAll("a, button, summary")[focused]?.focus();
  }
  const seen = new WeakMap();

  async function refresh() {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
    if (!answer.ok) throw new Error(String(answer.status));
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of document.querySelectorAll("[data-part]")) {
      const fresh = page.getElementById(part.id);
      if (fresh) replace(part, fresh);
    }
    const main = page.querySelector("main");
    return main && main.dataset.live;
  }

  async function live() {
    const main = document.querySelector("main");
    let seconds = Number(main.dataset.live);
    let failures = 0;
    while (seconds) {
      await new Promise((resolve) => setTimeout(resolve, seconds * 1000 * 2 ** Math.min(failures, 5)));
      if (document.hidden) continue;
      try {
        seconds = Number((await refresh()) || 0);
        failures = 0;
        main.dataset.live = seconds || "";
      } catch {
        failures += 1; // the server is away, or the execution is: once more, later
      }
    }
  }

  for (const part of document.querySelectorAll("[data-part]")) seen.set(part, said(part));
  localise(document);
  showPicks();
  live();
})();
