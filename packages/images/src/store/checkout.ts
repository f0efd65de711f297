/** The checkout service: a checkout per customer in Redis; shipping rates when it is updated, an order when it is submitted. */
import { createClient } from "@redis/client";
import { callJson, HttpError, serve, type Answer, type Call } from "./http.ts";

const env = process.env;
const redisUrl = env["RETAIL_CHECKOUT_PERSISTENCE_REDIS_URL"] ?? "redis://localhost:6379";
const orders = env["RETAIL_CHECKOUT_ENDPOINTS_ORDERS"];
/** The workshop's Lattice page still sets the older name. */
const namePrefix = env["RETAIL_CHECKOUT_SHIPPING_NAME_PREFIX"] ?? env["SHIPPING_NAME_PREFIX"] ?? "";

const redis = createClient({
  url: redisUrl,
  socket: { reconnectStrategy: (tries) => Math.min(100 * 2 ** tries, 5000) },
});
let lastProblem = "";
redis.on("error", (err: Error) => {
  if (err.message !== lastProblem) console.log(`redis at ${redisUrl}: ${err.message}`);
  lastProblem = err.message;
});
redis.on("ready", () => {
  lastProblem = "";
  console.log(`Using redis at ${redisUrl}`);
});
void redis.connect().catch(() => {}); // reported by the error event, tried again by the client

type Line = { id: string; name?: string; quantity: number; price: number };
type Address = {
  firstName?: string;
  lastName?: string;
  email?: string;
  address1?: string;
  city?: string;
  zip?: string;
};
type ShippingOption = { name: string; amount: number; token: string; estimatedDays: number };
type Checkout = {
  items: Line[];
  shippingAddress?: Address;
  deliveryOptionToken?: string;
  shippingRates?: { shipmentId: string; rates: ShippingOption[] };
  subtotal: number;
  shipping: number;
  total: number;
};

const keyOf = (call: Call): string => `checkout:${call.params["id"] ?? ""}`;

function ratesOf(items: readonly Line[]): ShippingOption[] {
  const pieces = items.reduce((sum, item) => sum + item.quantity, 0);
  return [
    { name: `${namePrefix}Priority Mail`, amount: 5 + pieces, token: "priority-mail", estimatedDays: 10 },
    {
      name: `${namePrefix}Priority Mail Express`,
      amount: 15 + 2 * pieces,
      token: "priority-mail-express",
      estimatedDays: 5,
    },
  ];
}

function parseUpdate(body: unknown): Pick<Checkout, "items" | "shippingAddress" | "deliveryOptionToken"> {
  const { items, shippingAddress, deliveryOptionToken } = (body ?? {}) as Checkout;
  if (!Array.isArray(items) || items.length === 0)
    throw new HttpError(400, "items must be a list with at least one item");
  for (const { id, quantity, price } of items) {
    if (typeof id !== "string" || !Number.isInteger(quantity) || quantity < 1 || typeof price !== "number")
      throw new HttpError(400, "each item needs id, quantity and price");
  }
  return {
    items,
    ...(shippingAddress ? { shippingAddress } : {}),
    ...(deliveryOptionToken ? { deliveryOptionToken } : {}),
  };
}

async function update(call: Call): Promise<Answer> {
  const parsed = parseUpdate(await call.body());
  const rates = ratesOf(parsed.items);
  const chosen = rates.find(({ token }) => token === parsed.deliveryOptionToken);
  if (parsed.deliveryOptionToken && !chosen)
    throw new HttpError(400, `no delivery option ${parsed.deliveryOptionToken}`);
  const subtotal = parsed.items.reduce((sum, item) => sum + item.quantity * item.price, 0);
  const shipping = chosen?.amount ?? 0;
  const checkout: Checkout = {
    ...parsed,
    shippingRates: { shipmentId: call.params["id"] ?? "", rates },
    subtotal,
    shipping,
    total: subtotal + shipping,
  };
  await redis.set(keyOf(call), JSON.stringify(checkout));
  return { status: 201, body: checkout };
}

async function read(call: Call): Promise<Checkout> {
  const stored = await redis.get(keyOf(call));
  if (!stored) throw new HttpError(404, `no checkout ${call.params["id"]}`);
  return JSON.parse(stored) as Checkout;
}

async function submit(call: Call): Promise<Answer> {
  const checkout = await read(call);
  if (!orders) throw new HttpError(500, "RETAIL_CHECKOUT_ENDPOINTS_ORDERS is not set");
  const order = await callJson<{ id: string }>("POST", `${orders}/orders`, {
    ...checkout.shippingAddress,
    items: checkout.items.map(({ id, quantity, price }) => ({ productId: id, quantity, unitCost: price })),
  });
  await redis.del(keyOf(call));
  return {
    status: 201,
    body: {
      orderId: order.id,
      email: checkout.shippingAddress?.email ?? "",
      items: checkout.items,
      subtotal: checkout.subtotal,
      shipping: checkout.shipping,
      total: checkout.total,
    },
  };
}

serve(Number(env["PORT"] ?? 8080), [
  [
    "GET",
    "/health",
    () => ({
      body: { status: "ok", info: { chaos: { status: "up" } }, error: {}, details: { chaos: { status: "up" } } },
    }),
  ],
  ["GET", "/topology", () => ({ body: { persistenceProvider: "redis", databaseEndpoint: redisUrl } })],
  ["GET", "/checkout/:id", async (call) => ({ body: await read(call) })],
  ["POST", "/checkout/:id/update", update],
  ["POST", "/checkout/:id/submit", submit],
]);
