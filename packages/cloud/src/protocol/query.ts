/**
 * The server's side of AWS's XML protocols (`ec2` and `query`): form parameters to input, output to XML, walked from
 * the model's table. List flattening, wire names and member order come from the table alone.
 */
import type { ModelTable, ShapeRow } from "@underlay/aws/model";
import { escapeXml } from "@underlay/aws/xml";
import { ApiError } from "./api-error.ts";

type Tree = { value?: string; children: Map<string, Tree> };

/** The input of `action` from its form pairs, and the names of parameters the model does not know. */
export function parseForm(
  table: ModelTable,
  action: string,
  pairs: Iterable<readonly [string, string]>,
): { input: Record<string, unknown>; unknown: string[] } {
  const root: Tree = { children: new Map() };
  for (const [name, value] of pairs) {
    if (name === "Action" || name === "Version" || name.startsWith("X-Amz-") || name === "AWSAccessKeyId") continue;
    let node = root;
    for (const part of name.split(".")) {
      let child = node.children.get(part);
      if (child === undefined) node.children.set(part, (child = { children: new Map() }));
      node = child;
    }
    node.value = value;
  }
  const unknown: string[] = [];
  const shape = table.operations[action]?.input;
  if (shape === undefined) return { input: {}, unknown: [...root.children.keys()] };
  const input = readTree(table, shape, root, "", unknown) as Record<string, unknown>;
  return { input, unknown };
}

function readTree(table: ModelTable, shapeName: string, tree: Tree, path: string, unknown: string[]): unknown {
  const shape = table.shapes[shapeName];
  if (shape?.type === "structure") {
    const result: Record<string, unknown> = {};
    const left = new Set(tree.children.keys());
    for (const [name, row] of Object.entries(shape.members ?? {})) {
      const wireName = row[1] ?? name;
      const child = tree.children.get(wireName);
      if (child === undefined) continue;
      left.delete(wireName);
      result[name] = readTree(table, row[0], child, path === "" ? wireName : `${path}.${wireName}`, unknown);
    }
    for (const name of left) unknown.push(path === "" ? name : `${path}.${name}`);
    for (const name of shape.required ?? [])
      if (result[name] === undefined)
        throw new ApiError(
          "MissingParameter",
          `The request must contain the parameter ${path === "" ? "" : `${path}.`}${wireNameOf(shape, name)}`,
        );
    return result;
  }
  if (shape?.type === "list") {
    const items = tree.children.get(shape.item ?? "member")?.children ?? tree.children;
    return [...items]
      .filter(([index]) => /^\d+$/.test(index))
      .sort(([a], [b]) => Number(a) - Number(b))
      .map(([index, child]) => readTree(table, shape.of ?? "string", child, `${path}.${index}`, unknown));
  }
  return readScalar(shape, shapeName, tree.value ?? "", path);
}

function wireNameOf(shape: ShapeRow, member: string): string {
  return shape.members?.[member]?.[1] ?? member;
}

function readScalar(shape: ShapeRow | undefined, type: string, text: string, path: string): unknown {
  const invalid = (expected: string) =>
    new ApiError("InvalidParameterValue", `Value (${text}) for parameter ${path} is invalid. ${expected}`);
  if (shape?.enum !== undefined) {
    if (!shape.enum.includes(text)) throw invalid(`Valid values are: ${shape.enum.join(", ")}`);
    return text;
  }
  switch (shape?.type ?? type) {
    case "boolean":
      if (!/^(true|false)$/i.test(text)) throw invalid("Expected a boolean");
      return text.toLowerCase() === "true";
    case "integer":
    case "long":
      if (!/^-?\d{1,15}$/.test(text)) throw invalid("Expected an integer");
      return Number(text);
    case "float":
    case "double":
      if (text === "" || Number.isNaN(Number(text))) throw invalid("Expected a number");
      return Number(text);
    case "timestamp":
      if (Number.isNaN(Date.parse(text))) throw invalid("Expected a timestamp");
      return new Date(text);
    case "blob":
      return Buffer.from(text, "base64");
    default:
      return text;
  }
}

/** The XML answer to `action`. */
export function renderOutput(
  table: ModelTable,
  action: string,
  output: Readonly<Record<string, unknown>>,
  requestId: string,
): string {
  const operation = table.operations[action];
  const body = operation?.output === undefined ? "" : renderMembers(table, operation.output, output);
  const namespace = table.namespace ?? "";
  if (table.protocol === "ec2") {
    const content = operation?.output === undefined ? "<return>true</return>" : body;
    return `<?xml version="1.0" encoding="UTF-8"?>\n<${action}Response xmlns="${namespace}"><requestId>${requestId}</requestId>${content}</${action}Response>`;
  }
  const result = operation?.wrapper === undefined ? body : `<${operation.wrapper}>${body}</${operation.wrapper}>`;
  return `<${action}Response xmlns="${namespace}">${result}<ResponseMetadata><RequestId>${requestId}</RequestId></ResponseMetadata></${action}Response>`;
}

function renderMembers(table: ModelTable, shapeName: string, value: Readonly<Record<string, unknown>>): string {
  let text = "";
  for (const [name, row] of Object.entries(table.shapes[shapeName]?.members ?? {})) {
    const member = value[name];
    if (member !== undefined && member !== null) text += renderValue(table, row[0], member, row[2] ?? name);
  }
  return text;
}

function renderValue(table: ModelTable, shapeName: string, value: unknown, element: string): string {
  const shape = table.shapes[shapeName];
  if (shape?.type === "structure")
    return `<${element}>${renderMembers(table, shapeName, value as Record<string, unknown>)}</${element}>`;
  if (shape?.type === "list") {
    const item = shape.item ?? "member";
    const items = (value as unknown[]).map((one) =>
      renderValue(table, shape.of ?? "string", one, shape.flat === true ? element : item),
    );
    return shape.flat === true ? items.join("") : `<${element}>${items.join("")}</${element}>`;
  }
  return `<${element}>${escapeXml(scalarText(value))}</${element}>`;
}

function scalarText(value: unknown): string {
  if (value instanceof Date) return value.toISOString();
  if (value instanceof Uint8Array) return Buffer.from(value).toString("base64");
  return String(value);
}

/** The XML form of an error. */
export function renderXmlError(protocol: ModelTable["protocol"], error: ApiError, requestId: string): string {
  const code = `<Code>${escapeXml(error.code)}</Code><Message>${escapeXml(error.message)}</Message>`;
  if (protocol === "ec2")
    return `<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error>${code}</Error></Errors><RequestID>${requestId}</RequestID></Response>`;
  const type = error.status >= 500 ? "Receiver" : "Sender";
  return `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>${type}</Type>${code}</Error><RequestId>${requestId}</RequestId></ErrorResponse>`;
}
