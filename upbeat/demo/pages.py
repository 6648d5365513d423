"""The demo shop's pages: product, basket, checkout, thanks. Nothing in them comes from outside, and none knows a story."""

from typing import Final

ORDER: Final = 1042
PAGE: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · Mug shop</title><link rel="icon" href="data:,"><link rel="stylesheet" href="/shop.css">
</head>
<body><header><a href="/">Mug shop</a></header><main>{body}</main></body>
</html>
"""
STYLE: Final = """\
body { margin: 0; font: 17px/1.5 system-ui, sans-serif; color: #1c1917; background: #fafaf9 }
header { background: #0f766e; padding: 1rem max(1rem, calc(50% - 21rem)) }
header a { color: #fff; font-weight: 700; text-decoration: none }
main { max-width: 42rem; margin: 2rem auto; padding: 0 1rem }
.card { display: flex; gap: 2rem; align-items: center; background: #fff; border: 1px solid #e7e5e4; border-radius: 12px; padding: 1.5rem }
.card svg { flex: none; width: 9rem }
table { width: 100%; border-collapse: collapse; margin: 1rem 0 2rem }
td, th { text-align: left; padding: .6rem 0; border-bottom: 1px solid #e7e5e4 }
td:last-child, th:last-child { text-align: right }
label { display: block; font-weight: 600; margin-bottom: .3rem }
input { font: inherit; padding: .6rem; width: 100%; box-sizing: border-box; border: 1px solid #78716c; border-radius: 8px; margin-bottom: 1.2rem }
button, .button { font: inherit; font-weight: 600; background: #0f766e; color: #fff; border: 0; border-radius: 8px; padding: .7rem 1.4rem; cursor: pointer; text-decoration: none }
[role=alert] { color: #b91c1c; font-weight: 600 }
"""
_MUG: Final = (
    '<svg viewBox="0 0 100 100" role="img" aria-label="A green mug"><circle cx="50" cy="50" r="48" fill="#f0fdfa"/>'
    '<path d="M68 42h6a10 10 0 0 1 0 22h-6" fill="none" stroke="#0f766e" stroke-width="6"/>'
    '<path d="M28 34h40v34a10 10 0 0 1-10 10H38a10 10 0 0 1-10-10z" fill="#14b8a6"/>'
    '<path d="M40 27q-4-5 0-9M50 27q-4-5 0-9M60 27q-4-5 0-9" fill="none" stroke="#a8a29e" stroke-width="2"/></svg>'
)
_CARD: Final = f'<div class="card">{_MUG}<div><h1>{{}}</h1><p>{{}}</p><p>{{}}</p></div></div>'
SHOWN: Final = {
    "/": (
        "Welcome",
        _CARD.format(
            "Mugs for every morning",
            "Stoneware, made to last.",
            '<a class="button" href="/mug">Coffee mug, 18.00 €</a>',
        ),
    ),
    "/mug": (
        "Coffee mug",
        _CARD.format(
            "Coffee mug",
            "0.3 l of stoneware, 18.00 €.",
            '<a class="button" href="/basket">Put into basket</a>',
        ),
    ),
    "/basket": (
        "Basket",
        (
            "<h1>Your basket</h1><table><tr><th>Product</th><th>Price</th></tr><tr><td>Coffee mug</td><td>18.00 €</td></tr>"
            '</table><a class="button" href="/checkout">To the checkout</a>'
        ),
    ),
    "/checkout": (
        "Checkout",
        (
            '<h1>Checkout</h1><label for="email">E-mail</label><input id="email" type="email" autocomplete="email">'
            '<button id="pay">Pay 18.00 €</button><p id="said" role="alert"></p><script src="/checkout.js"></script>'
        ),
    ),
}
"""Title and body by path."""
PAYING: Final = """\
document.querySelector("#pay").addEventListener("click", async () => {
  const answer = await fetch("/pay", {method: "POST", body: document.querySelector("#email").value});
  if (!answer.ok) {
    document.querySelector("#said").textContent = "We cannot take payments right now.";
    return;
  }
  const {order} = await answer.json();
  document.querySelector("main").innerHTML =
    `<h1>Thank you</h1><p>Your order number is <strong data-testid="order">${order}</strong>.</p>`;
});
"""
MUTE: Final = PAYING.replace('"#pay"', '"#pay-button"')
"""What a careless release makes of it: nothing listens to the button, while every address answers as before."""
