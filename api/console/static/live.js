// Keeps a page fresh: on news of what it shows, it fetches itself again and swaps the parts marked data-live.
// Without this script every page reads the same; it is then as old as its loading.
"use strict";
(() => {
  const body = document.body;
  const skew = body.dataset.now ? Date.now() - Date.parse(body.dataset.now) : 0;
  const trusted = window.trustedTypes
    ? window.trustedTypes.createPolicy("upbeat", { createHTML: (html) => html })
    : { createHTML: (html) => html };

  // The server's pages only, and a parsed document runs no script.
  const parse = (html) => new DOMParser().parseFromString(trusted.createHTML(html), "text/html");

  const ago = (seconds) => {
    const s = Math.max(0, Math.round(seconds));
    if (s < 60) return `${s} s`;
    if (s < 3600) return `${Math.floor(s / 60)} min`;
    if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
    return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
  };
  const age = () => {
    for (const time of document.querySelectorAll("time[data-ago]")) {
      const text = ago((Date.now() - skew - Date.parse(time.dateTime)) / 1000) + time.dataset.ago;
      if (time.textContent !== text) time.textContent = text;
    }
  };

  const here = document.querySelector("nav [aria-current]"); // on a phone the menu is a row that is longer than the screen
  if (here) here.parentElement.scrollLeft += here.getBoundingClientRect().left - 20;

  const isBusy = (part) => {
    const at = document.activeElement;
    return at !== body && part.contains(at) && at.matches("input, textarea, select");
  };
  const swap = (fresh) => {
    for (const old of document.querySelectorAll("[data-live]")) {
      const next = fresh.getElementById(old.id);
      if (!next || isBusy(old)) continue;
      for (const details of old.querySelectorAll("details[open]")) {
        const same = details.id && next.querySelector(`#${CSS.escape(details.id)}`);
        if (same) same.open = true;
      }
      const at = old.contains(document.activeElement) ? document.activeElement : null;
      const href = at && at.getAttribute("href");
      old.replaceWith(document.importNode(next, true));
      if (href) document.getElementById(next.id).querySelector(`[href="${CSS.escape(href)}"]`)?.focus();
    }
    age();
  };

  const get = async (url) => {
    const answer = await fetch(url, { headers: { Accept: "text/html" } });
    if (answer.redirected) location.reload(); // signed out
    return answer.ok ? parse(await answer.text()) : null;
  };
  let timer = null;
  let isStale = false;
  const refresh = async () => {
    timer = null;
    if (document.hidden) {
      isStale = true;
      return;
    }
    isStale = false;
    try {
      const fresh = await get(body.dataset.here || location.href); // an answer to a form is elsewhere
      if (fresh) swap(fresh);
    } catch {
      say("cannot reach Upbeat"); // the next news or poll tries again
    }
  };
  const soon = (delayMs) => {
    timer ??= setTimeout(refresh, delayMs);
  };

  const say = (text) => {
    const status = document.getElementById("live-state");
    if (status && status.textContent !== text) status.textContent = text;
  };
  const heard = (message) => {
    const news = JSON.parse(message.data);
    const isMine = !body.dataset.beat || news.beat === body.dataset.beat;
    if (message.type === "result" || message.type === "ping") {
      if (isMine) soon(body.dataset.beat ? 700 : 4000);
      return;
    }
    if (message.type === "stage" && isMine) {
      document.getElementById("live-said").textContent = `${news.beat} is ${news.stage}`;
    }
    clearTimeout(timer); // sooner than for results
    timer = null;
    soon(120);
  };
  const listen = () => {
    let isLive = false;
    const source = new EventSource("/api/v1/events");
    source.onopen = () => {
      isLive = true;
      say("live");
    };
    source.onerror = () => {
      isLive = false;
      say("refreshing every 5 s");
    };
    for (const name of ["result", "stage", "ping", "signal", "action"]) source.addEventListener(name, heard);
    setInterval(() => isLive || soon(0), 5000);
    document.addEventListener("visibilitychange", () => isStale && soon(0));
  };

  const poll = () => {
    const part = document.getElementById("guide");
    if (!part) return;
    const look = async () => {
      try {
        const fresh = document.hidden ? null : await get(`/console/guide?from=${encodeURIComponent(location.pathname)}`);
        const next = fresh && fresh.getElementById("guide");
        const now = document.getElementById("guide");
        if (next && next.innerHTML !== now.innerHTML) now.replaceWith(document.importNode(next, true));
      } catch {
        // Upbeat is restarting: the next look finds it
      }
    };
    setInterval(look, 2000);
  };

  document.addEventListener("submit", (event) => {
    const button = event.submitter;
    if (button?.dataset.busy) button.textContent = button.dataset.busy;
  });
  for (const tint of document.querySelectorAll("input[type=color]")) {
    tint.addEventListener("input", () => (tint.parentElement.querySelector("[type=checkbox]").checked = true));
  }
  for (const button of document.querySelectorAll("[data-copy]")) {
    const text = document.getElementById(button.dataset.copy);
    button.hidden = false;
    button.addEventListener("click", async () => {
      text.select();
      try {
        await navigator.clipboard.writeText(text.value);
      } catch {
        document.execCommand("copy"); // without https there is no clipboard of that kind
      }
      button.textContent = "Copied";
    });
  }
  if (body.dataset.every) setInterval(refresh, Number(body.dataset.every)); // what it shows makes no news
  else if (document.querySelector("[data-live]") && body.dataset.method === "GET") listen();
  poll();
  setInterval(age, 1000);
})();
