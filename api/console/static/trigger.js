// Keeps a rule's sentence and its preview as new as its form, while somebody edits it, and follows a preview that runs.
// Without this script a button does the same.
"use strict";
(() => {
  const form = document.getElementById("builder");
  const parts = ["sentence", "preview", "judged"];
  let asked = null; // the last request
  let isPosting = false;
  let isStale = false;
  let typing = null;
  let polling = null;

  const swap = (fresh) => {
    for (const name of parts) {
      const old = document.getElementById(name);
      const next = fresh.getElementById(name);
      if (!old || !next || old.isEqualNode(next)) continue;
      const input = next.querySelector("input[name=preview]");
      if (input && next.dataset.running && !next.querySelector(".found") && old.querySelector(".found")) {
        old.dataset.running = next.dataset.running; // what was found stays until there is more
        old.querySelector("input[name=preview]").value = input.value;
        old.classList.add("is-old");
        continue;
      }
      const open = [...old.querySelectorAll("details")].map((details) => details.open);
      next.querySelectorAll("details").forEach((details, n) => (details.open = open[n] ?? details.open));
      old.replaceWith(document.importNode(next, true));
    }
    follow();
  };
  // A request for a document runs no script of it, and needs no text to be trusted.
  const ask = (method, url, body, after) => {
    asked = new XMLHttpRequest();
    asked.open(method, url);
    asked.responseType = "document";
    asked.setRequestHeader("Accept", "text/html");
    asked.onload = (event) => event.target.status === 200 && event.target.response && swap(event.target.response);
    asked.onloadend = after ?? null;
    asked.send(body);
  };
  const follow = () => {
    clearTimeout(polling);
    const url = document.getElementById("preview")?.dataset.running;
    if (url) polling = setTimeout(() => ask("GET", url), 400);
  };
  // One at a time: each names the one before, which is cancelled.
  const preview = () => {
    if (isPosting) {
      isStale = true;
      return;
    }
    isPosting = true;
    clearTimeout(polling);
    asked?.abort();
    const body = new URLSearchParams(new FormData(form));
    body.set("do", "follow");
    ask("POST", form.action, body, () => {
      isPosting = false;
      if (isStale) preview();
      isStale = false;
    });
  };

  form?.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(preview, Number(form.dataset.edits));
  });
  form?.addEventListener("submit", () => {
    clearTimeout(typing);
    clearTimeout(polling);
    asked?.abort();
  });
  if (form?.dataset.isWhole !== undefined && !document.querySelector("#preview input")) preview();
  else follow();
})();
