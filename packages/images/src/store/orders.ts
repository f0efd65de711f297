/** The orders service: orders and their lines in PostgreSQL. */
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { HttpError, RequestCounter, serve, type Answer, type Call } from "./http.ts";

const env = process.env;
const endpoint = env["RETAIL_ORDERS_PERSISTENCE_ENDPOINT"] ?? "localhost:5432";
const [host, port] = endpoint.split(":");

const pool = new pg.Pool({
  host,
  port: Number(port ?? 5432),
  database: env["RETAIL_ORDERS_PERSISTENCE_NAME"] ?? "orders",
  user: env["RETAIL_ORDERS_PERSISTENCE_USERNAME"] ?? "orders",
  password: env["RETAIL_ORDERS_PERSISTENCE_PASSWORD"] ?? "",
  max: 4,
  connectionTimeoutMillis: 5000,
});
pool.on("error", (err) => console.log(`postgres at ${endpoint}: ${err.message}`));

console.log(`Using postgres database ${endpoint}`);
await migrate();

/** The service is up only with its tables: like the original, it waits for the database before it listens. */
async function migrate(): Promise<void> {
  for (;;) {
    try {
      await pool.query(
        "CREATE TABLE IF NOT EXISTS orders (id UUID PRIMARY KEY, created_date TIMESTAMPTZ NOT NULL DEFAULT now(), first_name TEXT, last_name TEXT, email TEXT, address1 TEXT, city TEXT, zip TEXT)",
      );
      await pool.query(
        "CREATE TABLE IF NOT EXISTS order_items (order_id UUID REFERENCES orders(id), product_id TEXT NOT NULL, quantity INT NOT NULL, unit_cost NUMERIC NOT NULL, PRIMARY KEY (order_id, product_id))",
      );
      return;
    } catch (err) {
      console.log(`waiting for ${endpoint}: ${(err as Error).message}`);
      await sleep(1000);
    }
  }
}

type OrderBody = {
  firstName?: string;
  lastName?: string;
  email?: string;
  address1?: string;
  city?: string;
  zip?: string;
  items: { productId: string; quantity: number; unitCost: number }[];
};

function parseOrder(body: unknown): OrderBody {
  const order = (body ?? {}) as OrderBody;
  if (!Array.isArray(order.items) || order.items.length === 0)
    throw new HttpError(400, "items must be a list with at least one item");
  for (const { productId, quantity, unitCost } of order.items) {
    if (typeof productId !== "string" || !Number.isInteger(quantity) || quantity < 1 || typeof unitCost !== "number")
      throw new HttpError(400, "each item needs productId, quantity and unitCost");
  }
  return order;
}

async function create(call: Call): Promise<Answer> {
  const order = parseOrder(await call.body());
  const id = randomUUID();
  const client = await pool.connect();
  try {
    await client.query("BEGIN");
    const values = [id, order.firstName, order.lastName, order.email, order.address1, order.city, order.zip];
    await client.query(
      "INSERT INTO orders (id, first_name, last_name, email, address1, city, zip) VALUES ($1, $2, $3, $4, $5, $6, $7)",
      values,
    );
    for (const { productId, quantity, unitCost } of order.items) {
      await client.query("INSERT INTO order_items VALUES ($1, $2, $3, $4)", [id, productId, quantity, unitCost]);
    }
    await client.query("COMMIT");
  } catch (err) {
    await client.query("ROLLBACK");
    throw err;
  } finally {
    client.release();
  }
  console.log(`created order ${id}`);
  return { body: { id, ...order } };
}

async function list(): Promise<Answer> {
  const { rows } = await pool.query(
    `SELECT o.id, o.created_date AS "createdDate", o.first_name AS "firstName", o.last_name AS "lastName", o.email,
       json_agg(json_build_object('productId', i.product_id, 'quantity', i.quantity, 'unitCost', i.unit_cost)) AS items
     FROM orders o JOIN order_items i ON i.order_id = o.id GROUP BY o.id ORDER BY o.created_date DESC LIMIT 100`,
  );
  return { body: rows };
}

const counter = new RequestCounter();
const up = { body: { status: "UP" } };

serve(Number(env["PORT"] ?? 8080), [
  ["GET", "/actuator/health", () => up],
  ["GET", "/actuator/health/liveness", () => up],
  ["GET", "/actuator/health/readiness", () => up],
  ["GET", "/actuator/prometheus", () => ({ body: counter.render() })],
  ["GET", "/topology", () => ({ body: { persistenceProvider: "postgres", databaseEndpoint: endpoint } })],
  ["GET", "/orders", list],
  ["POST", "/orders", create],
]);
