// Keeps a public page fresh, says how long ago things were, and shows days under a pointer. Without it every page reads the same.
"use strict";
(() => {
  const body = document.body;
  const find = (id) => document.getElementById(id);
  const trusted = window.trustedTypes
    ? window.trustedTypes.createPolicy("upbeat", { createHTML: (html) => html })
    : { createHTML: (html) => html };
  // The page's own address only, and a parsed document runs no script.
  const parse = (html) => new DOMParser().parseFromString(trusted.createHTML(html), "text/html");

  // How long ago, in the page's language.
  const lang = document.documentElement.lang;
  const SKEW = 300; // seconds: clocks are not the same everywhere
  const relative = new Intl.RelativeTimeFormat(lang, { numeric: "auto" });
  const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60]];
  const ago = (passed, only) => {
    const seconds = passed < 0 && passed > -SKEW ? 0 : passed;
    const [unit, size] = UNITS.find(([, size]) => Math.abs(seconds) >= size) ?? ["minute", 60];
    const count = seconds < 0 ? Math.round(seconds / size) : Math.trunc(seconds / size);
    if (only) return new Intl.NumberFormat(lang, { style: "unit", unit, unitDisplay: "long" }).format(count);
    return relative.format(-count, unit).replaceAll(" ", "\u00a0");
  };
  const age = () => {
    for (const time of document.querySelectorAll("time[data-ago]")) {
      time.dataset.said ??= time.textContent;
      const passed = (Date.now() - Date.parse(time.dateTime)) / 1000;
      const only = time.dataset.ago === "only";
      const said = ago(passed, only);
      // What was is not to come: this clock is wrong, and nothing is said by it.
      const isAstray = passed <= -SKEW && time.dataset.ago !== "ahead";
      const text = isAstray ? time.dataset.said : only ? said : time.dataset.said ? `${time.dataset.said} · ${said}` : `· ${said}`;
      if (time.textContent !== text) time.textContent = text;
    }
  };

  // A day's words beside the pointer or the focus, at once; the browser's own come late and not to a keyboard.
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  tip.setAttribute("aria-hidden", "true"); // links say the same by their names
  body.append(tip);
  const quiet = () => {
    for (const title of document.querySelectorAll(".bars title, .shared title")) {
      title.parentNode.dataset.tip = title.textContent;
      title.remove();
    }
  };
  const show = (bars, text, place) => {
    tip.textContent = text;
    tip.hidden = false;
    const box = bars.getBoundingClientRect();
    const left = Math.min(Math.max(place - tip.offsetWidth / 2, 8), document.documentElement.clientWidth - tip.offsetWidth - 8);
    tip.style.left = `${left + scrollX}px`;
    tip.style.top = `${box.top + scrollY - tip.offsetHeight - 6}px`;
  };
  const hide = () => (tip.hidden = true);
  const pointed = (event) => {
    const bars = event.target.closest?.(".bars");
    if (!bars) return hide();
    const box = bars.getBoundingClientRect();
    let text = event.target.closest("[data-tip]")?.dataset.tip;
    const use = event.target.closest("use") ?? event.target.querySelector?.("use");
    if (!text && use) {
      const strip = find(use.getAttribute("href").slice(1)).children;
      const at = Math.floor(((event.clientX - box.left) / box.width) * strip.length);
      const day = Math.min(Math.max(at, 0), strip.length - 1);
      const figure = bars.dataset.figures?.split(";")[day];
      text = strip[day].dataset.tip + (figure ? `, ${figure}` : "");
    }
    return text ? show(bars, text, event.clientX) : hide();
  };
  document.addEventListener("pointermove", pointed);
  document.addEventListener("pointerdown", pointed);
  document.addEventListener("focusin", (event) => {
    const on = event.target.closest(".bars a")?.querySelector("[data-tip]");
    if (!on || !event.target.matches(":focus-visible")) return hide();
    const box = on.getBoundingClientRect();
    show(on.closest(".bars"), on.dataset.tip, box.left + box.width / 2);
  });

  // An open menu closes for what is done elsewhere.
  document.addEventListener("click", (event) => {
    for (const menu of document.querySelectorAll(".menu[open]")) if (!menu.contains(event.target)) menu.open = false;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    hide();
    const menu = document.querySelector(".menu[open]");
    if (menu) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });

  const copy = find("copy");
  if (copy && navigator.clipboard) {
    copy.hidden = false;
    copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText(find("permalink").href);
      copy.textContent = copy.dataset.done;
    });
  }

  // What changed is swapped in; what somebody unfolded or has the focus on stays.
  const known = new Map();
  const TOLD = "#now :is(#state, h3, .pill, .timeline > li:first-child > .prose)";
  const told = () => [...document.querySelectorAll(TOLD)].map((one) => one.textContent.trim().slice(0, 300)).join(", ");
  const parts = (page) => page.querySelectorAll("[data-live]");
  const swap = (fresh) => {
    const before = told();
    for (const next of parts(fresh)) {
      const old = find(next.id);
      const html = next.outerHTML;
      if (!old || known.get(next.id) === html) continue;
      known.set(next.id, html);
      for (const details of old.querySelectorAll("details[id]")) {
        const same = next.querySelector(`#${CSS.escape(details.id)}`);
        if (same) same.open = details.open;
      }
      const at = old.contains(document.activeElement) ? document.activeElement : null;
      const href = at?.getAttribute("href");
      const holder = at?.closest("details[id]")?.id;
      old.replaceWith(document.importNode(next, true));
      const same = href ? find(next.id).querySelector(`[href="${CSS.escape(href)}"]`) : holder && find(holder)?.querySelector("summary");
      if (at) (same || find("main"))?.focus({ preventScroll: true });
    }
    hide();
    document.title = fresh.title;
    const icon = find("icon"); // a frame has none
    if (icon) icon.href = fresh.getElementById("icon").getAttribute("href");
    if (told() !== before) find("said").textContent = told();
    quiet();
    age();
  };
  const every = Number(body.dataset.every);
  let last = null;
  let failed = 0;
  let at = performance.now();
  const refresh = async () => {
    at = performance.now();
    try {
      // Answers come one after the other.
      const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-cache", signal: AbortSignal.timeout(every) });
      if (!answer.ok) throw new Error(`${answer.status}`);
      const text = await answer.text();
      if (text !== last) swap(parse(text));
      last = text;
      failed = 0;
    } catch {
      failed += 1; // the next time finds it
    }
    const lost = find("lost");
    if (lost) lost.hidden = failed < 2;
  };
  if (every && parts(document).length) {
    for (const part of parts(document)) known.set(part.id, part.outerHTML);
    const due = () => document.hidden || performance.now() - at < every || refresh();
    setInterval(due, 1000);
    document.addEventListener("visibilitychange", due);
  }
  quiet();
  age();
  setInterval(age, 15000);
})();
