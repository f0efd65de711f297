/** The carts service: items in DynamoDB, one row per customer and item. */
import { setTimeout as sleep } from "node:timers/promises";
import { dynamo, DynamoError, type Item } from "./dynamodb.ts";
import { HttpError, RequestCounter, serve, type Answer, type Call } from "./http.ts";

const env = process.env;
const endpoint = env["RETAIL_CART_PERSISTENCE_DYNAMODB_ENDPOINT"] ?? "http://localhost:8000";
const table = env["RETAIL_CART_PERSISTENCE_DYNAMODB_TABLE_NAME"] ?? "Items";

type CartItem = { itemId: string; quantity: number; unitPrice: number };

let ready = false;
void prepareTable();

/** The table is made when the store answers for the first time; until then the service is not ready. */
async function prepareTable(): Promise<void> {
  for (;;) {
    try {
      if (env["RETAIL_CART_PERSISTENCE_DYNAMODB_CREATE_TABLE"] === "true") await createTable();
      ready = true;
      console.log(`Using table ${table} at ${endpoint}`);
      return;
    } catch (err) {
      console.log(`waiting for ${endpoint}: ${(err as Error).message}`);
      await sleep(1000);
    }
  }
}

async function createTable(): Promise<void> {
  const key = (name: string, KeyType: string): object => ({ AttributeName: name, KeyType });
  const attribute = (name: string): object => ({ AttributeName: name, AttributeType: "S" });
  try {
    await dynamo(endpoint, "CreateTable", {
      TableName: table,
      BillingMode: "PAY_PER_REQUEST",
      AttributeDefinitions: [attribute("customerId"), attribute("itemId")],
      KeySchema: [key("customerId", "HASH"), key("itemId", "RANGE")],
    });
  } catch (err) {
    if (!(err instanceof DynamoError && err.code === "ResourceInUseException")) throw err;
  }
}

async function readItems(customer: string): Promise<CartItem[]> {
  const { Items } = await dynamo<{ Items: Item[] }>(endpoint, "Query", {
    TableName: table,
    KeyConditionExpression: "customerId = :c",
    ExpressionAttributeValues: { ":c": { S: customer } },
  });
  return Items.map((item) => ({
    itemId: text(item["itemId"]),
    quantity: Number(text(item["quantity"])),
    unitPrice: Number(text(item["unitPrice"])),
  }));
}

function text(value: Item[string] | undefined): string {
  return value === undefined ? "" : "S" in value ? value.S : value.N;
}

async function writeItem(customer: string, item: CartItem): Promise<void> {
  await dynamo(endpoint, "PutItem", {
    TableName: table,
    Item: {
      customerId: { S: customer },
      itemId: { S: item.itemId },
      quantity: { N: String(item.quantity) },
      unitPrice: { N: String(item.unitPrice) },
    },
  });
}

async function deleteItem(customer: string, itemId: string): Promise<void> {
  await dynamo(endpoint, "DeleteItem", {
    TableName: table,
    Key: { customerId: { S: customer }, itemId: { S: itemId } },
  });
}

function parseItem(body: unknown): CartItem {
  const { itemId, quantity = 1, unitPrice } = (body ?? {}) as Record<string, unknown>;
  if (typeof itemId !== "string" || itemId === "") throw new HttpError(400, "itemId is missing");
  if (!Number.isInteger(quantity) || (quantity as number) < 1)
    throw new HttpError(400, "quantity must be a whole number from 1 on");
  if (typeof unitPrice !== "number" || unitPrice < 0) throw new HttpError(400, "unitPrice must be a number");
  return { itemId, quantity: quantity as number, unitPrice };
}

const customerOf = (call: Call): string => call.params["customer"] ?? "";

async function addItem(call: Call): Promise<Answer> {
  const item = parseItem(await call.body());
  const existing = (await readItems(customerOf(call))).find(({ itemId }) => itemId === item.itemId);
  const merged = { ...item, quantity: item.quantity + (existing?.quantity ?? 0) };
  await writeItem(customerOf(call), merged);
  return { status: 201, body: merged };
}

async function mergeCarts(call: Call): Promise<Answer> {
  const session = call.query.get("sessionId");
  if (!session) throw new HttpError(400, "sessionId is missing");
  for (const item of await readItems(session)) {
    await writeItem(customerOf(call), item);
    await deleteItem(session, item.itemId);
  }
  return { status: 202 };
}

async function emptyCart(call: Call): Promise<Answer> {
  for (const { itemId } of await readItems(customerOf(call))) await deleteItem(customerOf(call), itemId);
  return { status: 202 };
}

const counter = new RequestCounter();
const up = { body: { status: "UP" } };

serve(Number(env["PORT"] ?? 8080), [
  ["GET", "/actuator/health", () => up],
  ["GET", "/actuator/health/liveness", () => up],
  ["GET", "/actuator/health/readiness", () => (ready ? up : { status: 503, body: { status: "OUT_OF_SERVICE" } })],
  ["GET", "/actuator/prometheus", () => ({ body: counter.render() })],
  ["GET", "/topology", () => ({ body: { persistenceProvider: "dynamodb", databaseEndpoint: endpoint } })],
  [
    "GET",
    "/carts/:customer",
    async (call) => ({ body: { customerId: customerOf(call), items: await readItems(customerOf(call)) } }),
  ],
  ["DELETE", "/carts/:customer", emptyCart],
  ["GET", "/carts/:customer/merge", mergeCarts],
  ["GET", "/carts/:customer/items", async (call) => ({ body: await readItems(customerOf(call)) })],
  ["POST", "/carts/:customer/items", addItem],
  [
    "PATCH",
    "/carts/:customer/items",
    async (call) => {
      await writeItem(customerOf(call), parseItem(await call.body()));
      return { status: 202 };
    },
  ],
  [
    "GET",
    "/carts/:customer/items/:item",
    async (call) => {
      const item = (await readItems(customerOf(call))).find(({ itemId }) => itemId === call.params["item"]);
      if (!item) throw new HttpError(404, `no item ${call.params["item"]} in this cart`);
      return { body: item };
    },
  ],
  [
    "DELETE",
    "/carts/:customer/items/:item",
    async (call) => {
      await deleteItem(customerOf(call), call.params["item"] ?? "");
      return { status: 202 };
    },
  ],
]);
