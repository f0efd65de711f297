/** The compact field table of `generated/kubernetes-protobuf.json`, opened on first use and parsed one message at a time. */
import { readFileSync } from "node:fs";

export type ProtobufField = {
  readonly name: string;
  readonly number: number;
  /** Scalar name or message name of this table. */
  readonly type: string;
  readonly list: boolean;
  /** Set for `map<key,value>`; `type` is then the value's. */
  readonly mapKey: string | undefined;
  /** Zero values are kept: a pointer in Go, or a field JSON never omits. */
  readonly keepZero: boolean;
  /** An inlined Go struct: its fields stand beside the others in JSON. */
  readonly inlined: boolean;
};

let lines: Record<string, string> | undefined;
const parsed = new Map<string, ReadonlyMap<number, ProtobufField>>();

/** Fields by number of a message (`api.core.v1.Pod`), or undefined when the table has none of that name. */
export function messageFields(message: string): ReadonlyMap<number, ProtobufField> | undefined {
  const known = parsed.get(message);
  if (known) return known;
  lines ??= (
    JSON.parse(readFileSync(new URL("../../generated/kubernetes-protobuf.json", import.meta.url), "utf8")) as {
      messages: Record<string, string>;
    }
  ).messages;
  const line = lines[message];
  if (line === undefined) return undefined;
  const fields = new Map<number, ProtobufField>();
  for (const text of line === "" ? [] : line.split(";")) {
    const field = parseField(text);
    fields.set(field.number, field);
  }
  parsed.set(message, fields);
  return fields;
}

function parseField(text: string): ProtobufField {
  const [name = "", number = "0", type = "", flags = ""] = text.split(" ");
  const map = /^map<(\w+),(.+)>$/.exec(type);
  const list = type.endsWith("[]");
  return {
    name,
    number: Number(number),
    type: map ? map[2]! : list ? type.slice(0, -2) : type,
    list,
    mapKey: map?.[1],
    keepZero: flags.includes("k"),
    inlined: flags.includes("i"),
  };
}
