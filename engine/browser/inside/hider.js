// A selector engine of Playwright's: those run where no script of the page sees what is sought. It finds what holds a
// secret and is not hidden yet, and hides it; with `shows` it then shows all again. Nothing moves by it.
(() => {
  const hidden = new Map();
  const plain = text => (text || "").replace(/[\s-]+/g, "").toLowerCase();
  const hide = (element, name, value) => {
    if (hidden.has(element) || !element.style) return;
    hidden.set(element, element.getAttribute("style"));
    element.style.setProperty("transition", "none", "important");
    element.style.setProperty(name, value, "important");
  };
  return {
    query: () => null,
    queryAll: (root, said) => {
      const {secrets, shows} = JSON.parse(said), before = hidden.size;
      const sought = secrets.map(plain).filter(Boolean);
      const holds = text => { const given = plain(text); return sought.some(secret => given.includes(secret)); };
      const texts = element => {
        const inner = [...element.children].filter(child => holds(child.textContent));
        if (inner.length) inner.forEach(texts); else hide(element, "opacity", "0");
      };
      const look = within => {
        for (const child of within.children) if (holds(child.textContent)) texts(child);
        // Text right below a shadow root has no element of its own.
        if (within.host && holds(within.textContent) && ![...within.children].some(child => holds(child.textContent)))
          hide(within.host, "opacity", "0");
        for (const element of within.querySelectorAll("*")) {
          if (element.shadowRoot) look(element.shadowRoot);
          if (typeof element.value === "string" && (element.type === "password" || holds(element.value)))
            hide(element, "-webkit-text-security", "disc");
          else if ([...element.attributes].some(({name, value}) => name !== "style" && holds(value)))
            hide(element, "opacity", "0");
        }
      };
      look(root.ownerDocument || root);
      const found = [...hidden.keys()].slice(before);
      if (shows) {
        for (const [element, style] of hidden)
          if (style === null) element.removeAttribute("style"); else element.setAttribute("style", style);
        hidden.clear();
      }
      return found;
    },
  };
})()
