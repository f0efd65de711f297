/** The client's side of the `ec2` and `query` protocols: form bodies out, XML in, walked from the model's table. */
import { randomUUID } from "node:crypto";
import type { ModelTable } from "./model.ts";
import { encodeRfc3986 } from "./sigv4.ts";
import { childOf, parseXml, type XmlElement } from "./xml.ts";

/** The form body of a call. Idempotency tokens that the caller left out are filled, so that a retry is the same call. */
export function encodeForm(table: ModelTable, action: string, input: Readonly<Record<string, unknown>>): string {
  const pairs: [string, string][] = [
    ["Action", action],
    ["Version", table.version],
  ];
  const shape = table.operations[action]?.input;
  if (shape !== undefined) encodeValue(table, shape, withToken(table, shape, input), "", pairs);
  return pairs.map(([name, value]) => `${encodeRfc3986(name)}=${encodeRfc3986(value)}`).join("&");
}

/** The input with its idempotency token filled in. */
export function withToken(
  table: ModelTable,
  shape: string,
  input: Readonly<Record<string, unknown>>,
): Readonly<Record<string, unknown>> {
  const members = Object.entries(table.shapes[shape]?.members ?? {});
  const token = members.find(([name, row]) => row[3]?.includes("t") === true && input[name] === undefined);
  return token === undefined ? input : { ...input, [token[0]]: randomUUID() };
}

function encodeValue(
  table: ModelTable,
  shapeName: string,
  value: unknown,
  prefix: string,
  pairs: [string, string][],
): void {
  if (value === undefined || value === null) return;
  const shape = table.shapes[shapeName];
  if (shape?.type === "structure") {
    const given = value as Record<string, unknown>;
    for (const name of Object.keys(given)) {
      const row = shape.members?.[name];
      if (row === undefined) {
        if (given[name] === undefined) continue;
        throw new TypeError(`Cannot encode ${prefix}${name}: ${shapeName} has no such member`);
      }
      encodeValue(table, row[0], given[name], prefix === "" ? (row[1] ?? name) : `${prefix}.${row[1] ?? name}`, pairs);
    }
  } else if (shape?.type === "list") {
    const item = table.protocol === "ec2" || shape.flat === true ? "" : `.${shape.item ?? "member"}`;
    (value as unknown[]).forEach((element, index) =>
      encodeValue(table, shape.of ?? "string", element, `${prefix}${item}.${index + 1}`, pairs),
    );
  } else pairs.push([prefix, scalarText(shape === undefined ? shapeName : shape.type, value)]);
}

function scalarText(type: string, value: unknown): string {
  if (type === "timestamp") return (value as Date).toISOString();
  if (type === "blob") return Buffer.from(value as Uint8Array).toString("base64");
  return String(value);
}

/** The output of a call from its XML answer. Lists the answer leaves out come back empty when `<xSet/>` was there, absent otherwise. */
export function parseOutput(table: ModelTable, action: string, body: string): Record<string, unknown> {
  const operation = table.operations[action];
  if (operation?.output === undefined) return {};
  const root = parseXml(body);
  const result = operation.wrapper === undefined ? root : childOf(root, operation.wrapper);
  return result === undefined ? {} : (parseElement(table, operation.output, result) as Record<string, unknown>);
}

function parseElement(table: ModelTable, shapeName: string, element: XmlElement): unknown {
  const shape = table.shapes[shapeName];
  if (shape?.type === "structure") {
    const result: Record<string, unknown> = {};
    for (const [name, row] of Object.entries(shape.members ?? {})) {
      const child = childOf(element, row[2] ?? name);
      if (child !== undefined) result[name] = parseElement(table, row[0], child);
    }
    return result;
  }
  if (shape?.type === "list")
    return element.children
      .filter((child) => child.name === (shape.item ?? "member"))
      .map((child) => parseElement(table, shape.of ?? "string", child));
  return parseScalar(shape === undefined ? shapeName : shape.type, element.text);
}

function parseScalar(type: string, text: string): unknown {
  switch (type) {
    case "boolean":
      return text === "true";
    case "integer":
    case "long":
    case "float":
    case "double":
      return Number(text);
    case "timestamp":
      return new Date(text);
    case "blob":
      return Buffer.from(text, "base64");
    default:
      return text;
  }
}

/** Code, message and request id of an XML error body of either protocol; undefined when it is none. */
export function parseXmlError(body: string): { code: string; message: string; requestId?: string } | undefined {
  let root: XmlElement;
  try {
    root = parseXml(body);
  } catch {
    return undefined;
  }
  const holder = childOf(root, "Errors") ?? root;
  const error = childOf(holder, "Error");
  if (error === undefined) return undefined;
  const requestId = (childOf(root, "RequestID") ?? childOf(root, "RequestId"))?.text;
  return {
    code: childOf(error, "Code")?.text ?? "Unknown",
    message: childOf(error, "Message")?.text ?? "",
    ...(requestId === undefined ? {} : { requestId }),
  };
}
