/** The catalog service: products in MySQL. Its log lines are a contract of the EKS workshop's security-group page. */
import { lookup } from "node:dns/promises";
import type { RowDataPacket } from "mysql2/promise";
import { createPool, type Pool } from "mysql2/promise";
import { HttpError, RequestCounter, serve, type Answer, type Call } from "./http.ts";
import { products, tagNames } from "./products.ts";

const env = process.env;
const endpoint = env["RETAIL_CATALOG_PERSISTENCE_ENDPOINT"] ?? "localhost:3306";
const [host = "localhost", port = "3306"] = endpoint.split(":");
const connectTimeout = Number(env["RETAIL_CATALOG_PERSISTENCE_CONNECT_TIMEOUT"] ?? 5) * 1000;

console.log(`Using mysql database ${endpoint}`);
const pool = await connect();
await migrate(pool);

async function connect(): Promise<Pool> {
  const made = createPool({
    host,
    port: Number(port),
    user: env["RETAIL_CATALOG_PERSISTENCE_USER"] ?? "catalog",
    password: env["RETAIL_CATALOG_PERSISTENCE_PASSWORD"] ?? "",
    database: env["RETAIL_CATALOG_PERSISTENCE_DB_NAME"] ?? "catalog",
    connectionLimit: 4,
    connectTimeout,
  });
  try {
    await made.query("SELECT 1");
    return made;
  } catch (err) {
    console.log(
      `${timestamp()} [error] failed to initialize database, got error ${await goError(err as NodeJS.ErrnoException)}`,
    );
    console.log("panic: failed to connect database");
    process.exit(2);
  }
}

/** The error in the words of Go's net package, which the workshop's reader looks for. */
async function goError(err: NodeJS.ErrnoException): Promise<string> {
  let address: string;
  try {
    ({ address } = await lookup(host));
  } catch {
    return `dial tcp: lookup ${host}: no such host`;
  }
  if (err.code === "ETIMEDOUT") return `dial tcp ${address}:${port}: i/o timeout`;
  if (err.code === "ECONNREFUSED") return `dial tcp ${address}:${port}: connect: connection refused`;
  return err.message;
}

async function migrate(database: Pool): Promise<void> {
  console.log("Running database migration...");
  await database.query(
    "CREATE TABLE IF NOT EXISTS products (id VARCHAR(40) PRIMARY KEY, name VARCHAR(64) NOT NULL, description TEXT NOT NULL, price INT NOT NULL)",
  );
  await database.query(
    "CREATE TABLE IF NOT EXISTS tags (name VARCHAR(32) PRIMARY KEY, display_name VARCHAR(64) NOT NULL)",
  );
  await database.query(
    "CREATE TABLE IF NOT EXISTS product_tags (product_id VARCHAR(40), tag_name VARCHAR(32), PRIMARY KEY (product_id, tag_name))",
  );
  for (const [name, displayName] of Object.entries(tagNames))
    await database.query("INSERT IGNORE INTO tags VALUES (?, ?)", [name, displayName]);
  for (const product of products) {
    await database.query("INSERT IGNORE INTO products VALUES (?, ?, ?, ?)", [
      product.id,
      product.name,
      product.description,
      product.price,
    ]);
    for (const tag of product.tags)
      await database.query("INSERT IGNORE INTO product_tags VALUES (?, ?)", [product.id, tag]);
  }
  console.log("Database migration complete");
}

type ProductRow = RowDataPacket & { id: string; name: string; description: string; price: number; tags: string | null };

const selectProducts =
  "SELECT p.id, p.name, p.description, p.price, GROUP_CONCAT(t.tag_name ORDER BY t.tag_name) AS tags FROM products p LEFT JOIN product_tags t ON t.product_id = p.id";

function present(row: ProductRow): object {
  const tags = (row.tags ?? "").split(",").filter(Boolean);
  return {
    id: row.id,
    name: row.name,
    description: row.description,
    price: row.price,
    tags: tags.map((name) => ({ name, displayName: tagNames[name] ?? name })),
  };
}

function positive(call: Call, name: string, otherwise: number): number {
  const text = call.query.get(name);
  if (text === null) return otherwise;
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new HttpError(400, `${name} must be a whole number from 1 on`);
  return value;
}

/** The WHERE clause of `?tags=a,b` and its values. */
function tagFilter(call: Call): { where: string; values: string[] } {
  const values = (call.query.get("tags") ?? "").split(",").filter(Boolean);
  if (values.length === 0) return { where: "", values };
  return {
    where: ` WHERE p.id IN (SELECT product_id FROM product_tags WHERE tag_name IN (${values.map(() => "?").join(",")}))`,
    values,
  };
}

async function listProducts(call: Call): Promise<Answer> {
  const size = positive(call, "size", 10);
  const page = positive(call, "page", 1);
  const { where, values } = tagFilter(call);
  const order =
    call.query.get("order") === "price_asc"
      ? "p.price"
      : call.query.get("order") === "price_desc"
        ? "p.price DESC"
        : "p.name";
  const [rows] = await pool.query<ProductRow[]>(
    `${selectProducts}${where} GROUP BY p.id ORDER BY ${order} LIMIT ? OFFSET ?`,
    [...values, size, (page - 1) * size],
  );
  return { body: rows.map(present) };
}

async function oneProduct({ params }: Call): Promise<Answer> {
  const [rows] = await pool.query<ProductRow[]>(`${selectProducts} WHERE p.id = ? GROUP BY p.id`, [params["id"]]);
  if (!rows[0]) throw new HttpError(404, `no product ${params["id"]}`);
  return { body: present(rows[0]) };
}

async function countProducts(call: Call): Promise<Answer> {
  const { where, values } = tagFilter(call);
  const [rows] = await pool.query<(RowDataPacket & { size: number })[]>(
    `SELECT COUNT(*) AS size FROM products p${where}`,
    values,
  );
  return { body: { size: rows[0]?.size ?? 0 } };
}

function timestamp(): string {
  return new Date().toISOString().replace("T", " ").slice(0, 19);
}

const counter = new RequestCounter();
const counted =
  (path: string, handle: (call: Call) => Promise<Answer> | Answer) =>
  (call: Call): Promise<Answer> | Answer => {
    counter.count(path);
    return handle(call);
  };

serve(Number(env["PORT"] ?? 8080), [
  ["GET", "/health", () => ({ body: "OK" })],
  ["GET", "/metrics", () => ({ body: counter.render() })],
  ["GET", "/topology", () => ({ body: { persistenceProvider: "mysql", databaseEndpoint: endpoint } })],
  ["GET", "/catalog/products", counted("/catalog/products", listProducts)],
  ["GET", "/catalog/products/:id", counted("/catalog/products/:id", oneProduct)],
  ["GET", "/catalog/size", counted("/catalog/size", countProducts)],
  [
    "GET",
    "/catalog/tags",
    counted("/catalog/tags", () => ({
      body: Object.entries(tagNames).map(([name, displayName]) => ({ name, displayName })),
    })),
  ],
]);
