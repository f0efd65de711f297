/** The store's front: pages put together from the catalog, carts, checkout and orders services. A session is a cookie. */
import { randomUUID } from "node:crypto";
import { callJson, serve, type Answer, type Call } from "../store/http.ts";
import {
  addressPage,
  cartPage,
  catalogPage,
  deliveryPage,
  errorPage,
  homePage,
  orderPage,
  productPage,
  topologyPage,
  type CartLine,
  type Frame,
  type Product,
  type ServiceState,
  type ShippingOption,
} from "./pages.ts";
import { styleSheet, themes } from "./style.ts";

const env = process.env;
/** The workshop's Lattice page still sets `ENDPOINTS_CHECKOUT`. */
const endpointOf = (name: string): string => env[`ENDPOINTS_${name}`] ?? env[`RETAIL_UI_ENDPOINTS_${name}`] ?? "";
const catalog = endpointOf("CATALOG");
const carts = endpointOf("CARTS");
const checkout = endpointOf("CHECKOUT");
const orders = endpointOf("ORDERS");
const theme = themes.includes(env["RETAIL_UI_THEME"] ?? "") ? (env["RETAIL_UI_THEME"] ?? "default") : "default";
const place = [
  env["METADATA_KUBERNETES_POD_NAME"],
  env["METADATA_KUBERNETES_NAMESPACE"],
  env["METADATA_KUBERNETES_NODE_NAME"],
]
  .filter(Boolean)
  .join(" · ");

type CartItem = { itemId: string; quantity: number; unitPrice: number };
type CheckoutState = {
  shippingRates: { rates: ShippingOption[] };
  subtotal: number;
  items: unknown[];
  shippingAddress?: Record<string, string>;
};
type Session = { readonly id: string; readonly headers: Record<string, string> };

function sessionOf(call: Call): Session {
  const id = /(?:^|;\s*)SESSIONID=([0-9a-f-]{36})/.exec(call.request.headers.cookie ?? "")?.[1];
  if (id) return { id, headers: {} };
  const fresh = randomUUID();
  return { id: fresh, headers: { "set-cookie": `SESSIONID=${fresh}; Path=/; HttpOnly; SameSite=Lax` } };
}

async function cartOf(session: Session): Promise<CartItem[]> {
  return callJson<CartItem[]>("GET", `${carts}/carts/${session.id}/items`);
}

async function frameOf(session: Session): Promise<Frame> {
  const cartCount = await cartOf(session)
    .then((items) => items.reduce((sum, item) => sum + item.quantity, 0))
    .catch(() => 0); // a page without its cart is better than no page
  return { theme, cartCount, place };
}

/** A page for the caller's session; a service that does not answer becomes a page that says which. */
function pageRoute(
  build: (call: Call, frame: Frame, session: Session) => Promise<string>,
): (call: Call) => Promise<Answer> {
  return async (call) => {
    const session = sessionOf(call);
    try {
      return { headers: session.headers, body: await build(call, await frameOf(session), session) };
    } catch (err) {
      console.error(`${call.request.method} ${call.request.url}: ${(err as Error).message}`);
      return {
        status: 500,
        headers: session.headers,
        body: errorPage({ theme, cartCount: 0, place }, (err as Error).message),
      };
    }
  };
}

function actionRoute(
  act: (form: URLSearchParams, session: Session) => Promise<void>,
  next: string,
): (call: Call) => Promise<Answer> {
  return async (call) => {
    const session = sessionOf(call);
    await act(new URLSearchParams(await call.text()), session);
    return { status: 303, headers: { ...session.headers, location: next } };
  };
}

async function withNames(items: readonly CartItem[]): Promise<CartLine[]> {
  return Promise.all(
    items.map(async (item) => ({
      ...item,
      name: (await callJson<Product>("GET", `${catalog}/catalog/products/${encodeURIComponent(item.itemId)}`)).name,
    })),
  );
}

async function addToCart(form: URLSearchParams, session: Session): Promise<void> {
  const product = await callJson<Product>(
    "GET",
    `${catalog}/catalog/products/${encodeURIComponent(form.get("productId") ?? "")}`,
  );
  await callJson("POST", `${carts}/carts/${session.id}/items`, {
    itemId: product.id,
    quantity: 1,
    unitPrice: product.price,
  });
}

async function startCheckout(form: URLSearchParams, session: Session): Promise<void> {
  const lines = await withNames(await cartOf(session));
  const items = lines.map(({ itemId, name, quantity, unitPrice }) => ({
    id: itemId,
    name,
    quantity,
    price: unitPrice,
  }));
  await callJson("POST", `${checkout}/checkout/${session.id}/update`, {
    items,
    shippingAddress: Object.fromEntries(form),
  });
}

async function placeOrder(call: Call, session: Session): Promise<{ orderId: string; email: string; total: number }> {
  const token = new URLSearchParams(await call.text()).get("token") ?? "";
  const state = await callJson<CheckoutState>("GET", `${checkout}/checkout/${session.id}`);
  await callJson("POST", `${checkout}/checkout/${session.id}/update`, {
    items: state.items,
    shippingAddress: state.shippingAddress,
    deliveryOptionToken: token,
  });
  const order = await callJson<{ orderId: string; email: string; total: number }>(
    "POST",
    `${checkout}/checkout/${session.id}/submit`,
  );
  await callJson("DELETE", `${carts}/carts/${session.id}`);
  return order;
}

async function probe(name: string, endpoint: string): Promise<ServiceState> {
  try {
    const found = await callJson<{ persistenceProvider: string; databaseEndpoint: string }>(
      "GET",
      `${endpoint}/topology`,
    );
    return { name, endpoint, state: "healthy", detail: `${found.persistenceProvider} ${found.databaseEndpoint}` };
  } catch (err) {
    return { name, endpoint, state: "unreachable", detail: (err as Error).message };
  }
}

const up = { body: { status: "UP" } };

serve(Number(env["PORT"] ?? 8080), [
  ["GET", "/actuator/health", () => up],
  ["GET", "/actuator/health/liveness", () => up],
  ["GET", "/actuator/health/readiness", () => up],
  [
    "GET",
    "/assets/css/theme-:theme.css",
    ({ params }) => {
      const sheet = styleSheet(params["theme"] ?? "");
      return sheet ? { headers: { "content-type": "text/css" }, body: sheet } : { status: 404, body: "no such theme" };
    },
  ],
  [
    "GET",
    "/",
    pageRoute(async (_, frame) => homePage(frame, await callJson<Product[]>("GET", `${catalog}/catalog/products`))),
  ],
  [
    "GET",
    "/home",
    pageRoute(async (_, frame) => homePage(frame, await callJson<Product[]>("GET", `${catalog}/catalog/products`))),
  ],
  [
    "GET",
    "/catalog",
    pageRoute(async (call, frame) => {
      const tag = call.query.get("tag");
      const [products, tags] = await Promise.all([
        callJson<Product[]>(
          "GET",
          `${catalog}/catalog/products?size=100${tag ? `&tags=${encodeURIComponent(tag)}` : ""}`,
        ),
        callJson<{ name: string; displayName: string }[]>("GET", `${catalog}/catalog/tags`),
      ]);
      return catalogPage(frame, products, tags, tag);
    }),
  ],
  [
    "GET",
    "/catalog/:id",
    pageRoute(async ({ params }, frame) =>
      productPage(
        frame,
        await callJson<Product>("GET", `${catalog}/catalog/products/${encodeURIComponent(params["id"] ?? "")}`),
      ),
    ),
  ],
  ["GET", "/cart", pageRoute(async (_, frame, session) => cartPage(frame, await withNames(await cartOf(session))))],
  ["POST", "/cart", actionRoute(addToCart, "/cart")],
  [
    "POST",
    "/cart/remove",
    actionRoute(
      async (form, session) =>
        void (await callJson(
          "DELETE",
          `${carts}/carts/${session.id}/items/${encodeURIComponent(form.get("productId") ?? "")}`,
        )),
      "/cart",
    ),
  ],
  ["GET", "/checkout", pageRoute(async (_, frame) => addressPage(frame))],
  ["POST", "/checkout", actionRoute(startCheckout, "/checkout/delivery")],
  [
    "GET",
    "/checkout/delivery",
    pageRoute(async (_, frame, session) => {
      const state = await callJson<CheckoutState>("GET", `${checkout}/checkout/${session.id}`);
      return deliveryPage(frame, state.shippingRates.rates, state.subtotal);
    }),
  ],
  [
    "POST",
    "/checkout/delivery",
    pageRoute(async (call, frame, session) => orderPage({ ...frame, cartCount: 0 }, await placeOrder(call, session))),
  ],
  [
    "GET",
    "/topology",
    pageRoute(async (_, frame) =>
      topologyPage(
        frame,
        await Promise.all([
          probe("catalog", catalog),
          probe("carts", carts),
          probe("checkout", checkout),
          probe("orders", orders),
        ]),
      ),
    ),
  ],
]);
