// Keeps a rule's sentence and its preview as new as its form, while somebody edits it, and follows a preview that runs.
// Without this script a button does the same.
"use strict";
(() => {
  const form = document.getElementById("builder");
  const parts = ["sentence", "preview", "judged"];
  let asked = null; // the one request under way: another takes its place
  let timer = null;

  const swap = (fresh) => {
    for (const name of parts) {
      const old = document.getElementById(name);
      const next = fresh.getElementById(name);
      if (!old || !next || old.isEqualNode(next)) continue;
      const open = [...old.querySelectorAll("details")].map((details) => details.open);
      next.querySelectorAll("details").forEach((details, n) => (details.open = open[n] ?? details.open));
      old.replaceWith(document.importNode(next, true));
    }
    follow();
  };
  // A request for a document runs no script of it, and needs no text to be trusted.
  const ask = (method, url, body) => {
    asked?.abort();
    asked = new XMLHttpRequest();
    asked.open(method, url);
    asked.responseType = "document";
    asked.setRequestHeader("Accept", "text/html");
    asked.onload = () => asked.status === 200 && asked.response && swap(asked.response);
    asked.send(body);
  };
  const later = (delayMs, work) => {
    clearTimeout(timer);
    timer = setTimeout(work, delayMs);
  };
  const follow = () => {
    const url = document.getElementById("preview")?.dataset.running;
    if (url) later(700, () => ask("GET", url));
  };
  const preview = () => {
    const body = new URLSearchParams(new FormData(form));
    body.set("do", "preview");
    ask("POST", form.action, body);
  };

  form?.addEventListener("input", () => later(Number(form.dataset.edits), preview));
  form?.addEventListener("submit", () => {
    clearTimeout(timer);
    asked?.abort();
  });
  if (form?.dataset.isWhole !== undefined && !document.querySelector("#preview input")) later(0, preview);
  else follow();
})();
