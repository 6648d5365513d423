// What stands around an element, where that is not too much.
(element, most) => {
  for (let i = 0; i < 2 && element.parentElement; i++) {
    if (element.parentElement.getElementsByTagName("*").length > 1000) break;
    element = element.parentElement;
  }
  return element.outerHTML.slice(0, most);
}
