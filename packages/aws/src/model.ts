/**
 * The reduced service models: what each action takes and answers, and the names that travel on the wire.
 * One table serves our clients (serialise input, parse output) and the embedded cloud (parse input, serialise output).
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";

export type ServiceName = "ec2" | "eks" | "sts";

/** `[shape, requestName, responseName, flags]`; names absent: as the member. Flags: u path, q query string, h header, t idempotency token. */
export type MemberRow = [shape: string, inName?: string, outName?: string, flags?: string];

export type ShapeRow = {
  type: "structure" | "list" | "map" | "string";
  /** In the model's order, which is the order on the wire. */
  members?: Record<string, MemberRow>;
  required?: string[];
  /** The element shape of a list, the value shape of a map. */
  of?: string;
  /** XML element name of list items. */
  item?: string;
  /** A list without a wrapping element. */
  flat?: true;
  enum?: string[];
  error?: { status: number; code: string };
};

export type OperationRow = {
  method: string;
  uri: string;
  status?: number;
  input?: string;
  output?: string;
  wrapper?: string;
  pages?: { token: string; next: string; limit?: string };
};

export type ModelTable = {
  source: string;
  protocol: "ec2" | "query" | "rest-json";
  version: string;
  signingName: string;
  namespace?: string;
  operations: Record<string, OperationRow>;
  shapes: Record<string, ShapeRow>;
};

const loaded = new Map<ServiceName, ModelTable>();

/** The table of a service; read from disk at first use. */
export function modelOf(service: ServiceName): ModelTable {
  let table = loaded.get(service);
  if (table === undefined) {
    table = JSON.parse(readFileSync(join(import.meta.dirname, "generated", `${service}.json`), "utf8")) as ModelTable;
    loaded.set(service, table);
  }
  return table;
}

/** The row of a named shape; scalars (`string`, `integer`, …) have none. */
export function shapeOf(table: ModelTable, name: string): ShapeRow | undefined {
  return table.shapes[name];
}
