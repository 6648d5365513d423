// A selector engine of Playwright's: those run where no script of the page sees what is sought. It finds what shows a
// secret and is not hidden, and hides it; with `shows` it then shows all again. Nothing moves by it. A form's fields stand
// before what any element has, as `form.children`, so that is not read of the element itself.
(() => {
  const hidden = new Map();
  const UNSEEN = ["SCRIPT", "STYLE", "TEMPLATE", "NOSCRIPT"];
  const TYPED = ["text", "search", "tel", "url", "email", "password", "number", "textarea"];
  const {getAttribute, setAttribute, removeAttribute} = Element.prototype;
  const getter = (type, name) => Object.getOwnPropertyDescriptor(type.prototype, name).get;
  const attributes = getter(Element, "attributes"), first = getter(Element, "firstElementChild");
  const styles = [HTMLElement, SVGElement, MathMLElement].map(type => [type, getter(type, "style")]);
  const plain = text => text.replace(/[\s\p{Cf}-]+/gu, "").toLowerCase();
  const style = element => styles.find(([type]) => element instanceof type)?.[1].call(element);
  const isHidden = (element, name, value) => style(element).getPropertyValue(name) === value;
  const hide = (element, name = "opacity", value = "0") => {
    while (element && getComputedStyle(element).display === "contents") element = element.parentElement;
    element = element?.closest("select") || element;
    if (!element || !style(element) || hidden.has(element) && isHidden(element, name, value)) return 0;
    if (!hidden.has(element)) hidden.set(element, getAttribute.call(element, "style"));
    style(element).setProperty("transition", "none", "important");
    style(element).setProperty(name, value, "important");
    return 1;
  };
  return {
    query: () => null,
    queryAll: (root, said) => {
      const {secrets, shows} = JSON.parse(said), found = [];
      const sought = secrets.map(plain).filter(Boolean);
      const holds = text => text && (text = plain(text)) && sought.some(secret => text.includes(secret));
      const shown = element => !first.call(element) && !(element instanceof HTMLAnchorElement)
        || ["::before", "::after"].some(part => holds(getComputedStyle(element, part).content));
      const put = (element, ...how) => hide(element, ...how) && found.push(document.documentElement);
      const look = within => {
        const walker = Document.prototype.createTreeWalker.call(document, within, 5), texts = [];
        let size = 0;
        for (let node; (node = walker.nextNode());) {
          if (node instanceof Text) {
            if (UNSEEN.includes(node.parentNode.tagName)) continue;
            texts.push({node, text: plain(node.data), at: size});
            size += texts.at(-1).text.length;
            continue;
          }
          if (node.shadowRoot instanceof ShadowRoot) look(node.shadowRoot);
          const isField = node instanceof HTMLInputElement || node instanceof HTMLTextAreaElement;
          if (isField && (node.type === "password" || holds(node.value)))
            put(node, ...(TYPED.includes(node.type) ? ["-webkit-text-security", "disc"] : []));
          else if ([...attributes.call(node)].some(({name, value}) => name !== "style" && holds(value)) && shown(node))
            put(node);
        }
        // A secret may be in pieces, each in an element of its own.
        const whole = texts.map(({text}) => text).join("");
        for (const secret of sought)
          for (let at = -1, i = 0; (at = whole.indexOf(secret, at + 1)) >= 0;) {
            while (texts[i].at + texts[i].text.length <= at) i++;
            for (let j = i; j < texts.length && texts[j].at < at + secret.length; j++)
              put(texts[j].node.parentElement || texts[j].node.parentNode.host);
          }
      };
      look(root.ownerDocument || root);
      if (shows) {
        for (const [element, before] of hidden)
          if (before === null) removeAttribute.call(element, "style"); else setAttribute.call(element, "style", before);
        hidden.clear();
      }
      return found;
    },
  };
})()
