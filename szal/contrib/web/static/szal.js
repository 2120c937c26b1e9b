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

  // How long ago something began that still runs.
  function tick() {
    for (const place of document.querySelectorAll("[data-since]")) {
      const seconds = Math.max(0, Math.floor((Date.now() - new Date(place.dataset.since)) / 1000));
      const [days, hours, minutes] = [86400, 3600, 60].map((each) => Math.floor(seconds / each));
      let told = minutes ? `${minutes}m${pad(seconds % 60)}s` : `${seconds}s`;
      if (hours) told = days > 1 ? `${days}d${pad(hours % 24)}h` : `${hours}h${pad(minutes % 60)}m`;
      place.textContent = (place.dataset.before || "") + told;
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

  // Returns whether the part is now as it is to be: one that is in use is left for later.
  function replace(part, fresh) {
    const now = said(fresh);
    if (seen.get(part) === now) return true;
    if (isInUse(part)) return false;
    seen.set(part, now);
    const open = new Map([...part.querySelectorAll("details[id]")].map((each) => [each.id, each.open]));
    const picked = new Set(picks().filter((pick) => pick.checked).map((pick) => pick.value));
    const active = document.activeElement;
    const focused = part.contains(active) ? [...part.querySelectorAll("a, button, summary")].indexOf(active) : -1;
    part.innerHTML = fresh.innerHTML; // of our own server, escaped there
    for (const each of part.querySelectorAll("details[id]")) if (open.has(each.id)) each.open = open.get(each.id);
    for (const pick of picks()) pick.checked = picked.has(pick.value);
    localise(part);
    tick();
    showPicks();
    if (focused >= 0) part.querySelectorAll("a, button, summary")[focused]?.focus();
    return true;
  }
  const seen = new WeakMap();
  const main = document.querySelector("main");
  let tag = null; // of the page as it is shown here

  async function refresh() {
    const headers = { Accept: "text/html", ...(tag && { "If-None-Match": tag }) };
    const answer = await fetch(location.href, { headers, cache: "no-store" });
    if (answer.status === 304) return;
    if (!answer.ok) throw new Error(String(answer.status));
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    let isWhole = true;
    for (const part of document.querySelectorAll("[data-part]")) {
      const fresh = page.getElementById(part.id);
      if (fresh && !replace(part, fresh)) isWhole = false;
    }
    tag = isWhole ? answer.headers.get("ETag") : null;
    main.dataset.live = page.querySelector("main")?.dataset.live || "";
  }

  // -- when that is ---------------------------------------------------------------------------------

  // Every data-live seconds; while the server tells whenever something has changed, then, and rarely besides: what is
  // drawn up to now grows. A stream that a proxy holds back tells nothing, so it counts from the first event on.
  const RARELY = 10; // seconds
  const REFUSED = 15; // seconds, until the server is asked again for a stream that it had no thread for
  const APART = 250; // milliseconds between two, at least
  const FOR_EVER = 2 ** 31 - 1; // milliseconds
  let source = null;
  let isTold = false;
  let notBefore = 0;
  let isRung = false;
  let wake = () => {};

  function ring() {
    isRung = true;
    wake();
  }

  function listen() {
    if (source || !main.dataset.events || !window.EventSource || document.hidden || Date.now() < notBefore) return;
    const made = new EventSource(main.dataset.events);
    let hasTold = false;
    made.addEventListener("open", () => {
      isTold = hasTold; // it has come back
    });
    made.addEventListener("status", () => {
      isTold = hasTold = true;
      ring();
    });
    made.addEventListener("end", () => {
      hush();
      notBefore = Infinity;
      ring();
    });
    made.addEventListener("error", () => {
      if (isTold) ring(); // it has ended, or was cut: it comes back by itself
      isTold = false;
      if (made.readyState !== EventSource.CLOSED) return;
      hush();
      notBefore = Date.now() + REFUSED * 1000;
    });
    source = made;
  }

  function hush() {
    source?.close();
    source = null;
    isTold = false;
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) hush();
    else ring();
  });

  const rest = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

  async function rung(milliseconds) {
    if (!isRung) await Promise.race([rest(milliseconds), new Promise((resolve) => (wake = resolve))]);
    isRung = false;
  }

  async function live() {
    let failures = 0;
    while (main.dataset.live) {
      listen();
      const seconds = isTold ? RARELY : main.dataset.live * 2 ** Math.min(failures, 5);
      await rung(document.hidden ? FOR_EVER : seconds * 1000);
      if (document.hidden) continue;
      const began = performance.now();
      try {
        await refresh();
        failures = 0;
      } catch {
        failures += 1; // the server is away, or the execution is: once more, later
      }
      await rest(Math.max(APART, 2 * (performance.now() - began)));
    }
    hush();
  }

  for (const part of document.querySelectorAll("[data-part]")) seen.set(part, said(part));
  localise(document);
  tick();
  setInterval(tick, 1000);
  showPicks();
  live();
})();
