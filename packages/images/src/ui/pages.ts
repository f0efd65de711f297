/** The store's pages as HTML text. Every value from outside goes through `escape`. */

export type Product = {
  id: string;
  name: string;
  description: string;
  price: number;
  tags: { name: string; displayName: string }[];
};
export type CartLine = { itemId: string; quantity: number; unitPrice: number; name: string };
export type ShippingOption = { name: string; amount: number; token: string; estimatedDays: number };
export type Frame = { readonly theme: string; readonly cartCount: number; readonly place: string };

export function escape(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

const money = (amount: number): string => `$${amount.toLocaleString("en-US")}`;

function page(frame: Frame, title: string, content: string): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escape(title)} · Retail Store</title>
<link rel="stylesheet" href="/assets/css/theme-${escape(frame.theme)}.css">
</head>
<body>
<header><a class="brand" href="/home">Retail Store</a><nav><a href="/catalog">Catalog</a><a href="/topology">Topology</a><a href="/cart" id="cart-link">Cart <b>${frame.cartCount}</b></a></nav></header>
<main>${content}</main>
<footer>${escape(frame.place)}</footer>
</body>
</html>`;
}

/** A drawing per product, made from its id: no picture files, the same product always looks the same. */
function drawing(id: string): string {
  const seed = [...id].reduce((sum, character) => (sum * 31 + character.charCodeAt(0)) >>> 0, 7);
  const hue = seed % 360;
  const shapes = Array.from({ length: 5 }, (_, index) => {
    const value = (seed >>> (index * 3)) % 97;
    return `<circle cx="${20 + value}" cy="${20 + ((value * 7) % 90)}" r="${8 + (value % 24)}" fill="hsl(${(hue + index * 40) % 360} 60% ${45 + index * 6}%)" opacity=".75"/>`;
  });
  return `<svg viewBox="0 0 140 130" role="img" aria-hidden="true"><rect width="140" height="130" fill="hsl(${hue} 45% 92%)"/>${shapes.join("")}</svg>`;
}

function card(product: Product): string {
  return `<article class="card"><a href="/catalog/${escape(product.id)}">${drawing(product.id)}<h3>${escape(product.name)}</h3></a>
<p class="price">${money(product.price)}</p>${addToCart(product)}</article>`;
}

function addToCart(product: Product): string {
  return `<form method="post" action="/cart"><input type="hidden" name="productId" value="${escape(product.id)}"><button>Add to cart</button></form>`;
}

export function homePage(frame: Frame, products: readonly Product[]): string {
  return page(
    frame,
    "Home",
    `<section class="hero"><h1>The most public addresses in retail</h1><p>Every pod here has an address of its own, and so has every mug.</p><a class="button" href="/catalog">Shop now</a></section>
<h2>Popular products</h2><div class="grid">${products.slice(0, 4).map(card).join("")}</div>`,
  );
}

export function catalogPage(
  frame: Frame,
  products: readonly Product[],
  tags: readonly { name: string; displayName: string }[],
  tag: string | null,
): string {
  const links = [{ name: "", displayName: "All" }, ...tags].map(
    ({ name, displayName }) =>
      `<a class="tag${(tag ?? "") === name ? " on" : ""}" href="/catalog${name ? `?tag=${encodeURIComponent(name)}` : ""}">${escape(displayName)}</a>`,
  );
  return page(
    frame,
    "Catalog",
    `<h1>Catalog</h1><p class="tags">${links.join("")}</p><div class="grid">${products.map(card).join("")}</div>`,
  );
}

export function productPage(frame: Frame, product: Product): string {
  return page(
    frame,
    product.name,
    `<section class="detail">${drawing(product.id)}<div><h1>${escape(product.name)}</h1><p class="price">${money(product.price)}</p><p>${escape(product.description)}</p>
<p class="tags">${product.tags.map(({ displayName }) => `<span class="tag">${escape(displayName)}</span>`).join("")}</p>${addToCart(product)}</div></section>`,
  );
}

export function cartPage(frame: Frame, lines: readonly CartLine[]): string {
  if (lines.length === 0)
    return page(
      frame,
      "Cart",
      `<h1>Your cart</h1><p>It is empty.</p><a class="button" href="/catalog">To the catalog</a>`,
    );
  const total = lines.reduce((sum, line) => sum + line.quantity * line.unitPrice, 0);
  const rows = lines.map(
    (
      line,
    ) => `<tr><td>${escape(line.name)}</td><td>${line.quantity}</td><td>${money(line.unitPrice * line.quantity)}</td>
<td><form method="post" action="/cart/remove"><input type="hidden" name="productId" value="${escape(line.itemId)}"><button class="quiet">Remove</button></form></td></tr>`,
  );
  return page(
    frame,
    "Cart",
    `<h1>Your cart</h1><table><thead><tr><th>Product</th><th>Quantity</th><th>Price</th><th></th></tr></thead><tbody>${rows.join("")}</tbody>
<tfoot><tr><td>Total</td><td></td><td>${money(total)}</td><td></td></tr></tfoot></table><a class="button" href="/checkout">Checkout</a>`,
  );
}

const fields = [
  ["firstName", "First name", "John"],
  ["lastName", "Last name", "Doe"],
  ["email", "Email", "john_doe@example.com"],
  ["address1", "Address", "100 Main Street"],
  ["city", "City", "Anytown"],
  ["zip", "Zip code", "11111"],
] as const;

export function addressPage(frame: Frame): string {
  const inputs = fields.map(
    ([name, label, value]) => `<label>${label}<input name="${name}" value="${value}" required></label>`,
  );
  return page(
    frame,
    "Checkout",
    `<h1>Shipping address</h1><form class="stack" method="post" action="/checkout">${inputs.join("")}<button>Continue</button></form>`,
  );
}

export function deliveryPage(frame: Frame, options: readonly ShippingOption[], subtotal: number): string {
  const inputs = options.map(
    (option, index) =>
      `<label class="choice"><input type="radio" name="token" value="${escape(option.token)}"${index === 0 ? " checked" : ""}> ${escape(option.name)}: ${money(option.amount)}, about ${option.estimatedDays} days</label>`,
  );
  return page(
    frame,
    "Delivery",
    `<h1>Delivery</h1><p>Subtotal ${money(subtotal)}</p><form class="stack" method="post" action="/checkout/delivery">${inputs.join("")}<button>Place order</button></form>`,
  );
}

export function orderPage(frame: Frame, order: { orderId: string; email: string; total: number }): string {
  return page(
    frame,
    "Thank you",
    `<h1>Thank you for your order</h1><p>Order <code id="order-id">${escape(order.orderId)}</code>, ${money(order.total)}. A message is on its way to ${escape(order.email)}.</p><a class="button" href="/home">Home</a>`,
  );
}

export type ServiceState = {
  readonly name: string;
  readonly endpoint: string;
  readonly state: string;
  readonly detail: string;
};

export function topologyPage(frame: Frame, services: readonly ServiceState[]): string {
  const rows = services.map(
    ({ name, endpoint, state, detail }) =>
      `<tr><td>${escape(name)}</td><td><code>${escape(endpoint)}</code></td><td>${escape(state)}</td><td>${escape(detail)}</td></tr>`,
  );
  return page(
    frame,
    "Topology",
    `<h1>Topology</h1><table><thead><tr><th>Service</th><th>Endpoint</th><th>State</th><th>Store</th></tr></thead><tbody>${rows.join("")}</tbody></table>`,
  );
}

export function errorPage(frame: Frame, message: string): string {
  return page(
    frame,
    "Error",
    `<h1>Something is not reachable</h1><p>${escape(message)}</p><a class="button" href="/home">Home</a>`,
  );
}
