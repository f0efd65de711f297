/** Label and field selectors of list, watch and deletecollection. */
import { badRequest } from "../api-error.ts";
import type { ResourceInfo } from "../resource-info.ts";
import type { Entry } from "../store/store.ts";
import { fieldName } from "./selectable-fields.ts";

export type Selection = {
  readonly namespace: string;
  /** True when there is a label or field selector (remainingItemCount is then unknown). */
  readonly selective: boolean;
  /** The one name asked for by metadata.name=X. */
  readonly name: string | undefined;
  matches(entry: Entry): boolean;
};

type LabelTerm = {
  key: string;
  operator: "in" | "notin" | "exists" | "absent" | "gt" | "lt";
  values: readonly string[];
};

/** What a request selects, from its query; throws 400 for malformed selectors. */
export function parseSelection(info: ResourceInfo, namespace: string, query: URLSearchParams): Selection {
  const labels = parseLabelSelector(query.get("labelSelector") ?? "");
  const fields = parseFieldSelector(query.get("fieldSelector") ?? "").map(({ field, equals, value }) => ({
    field: fieldName(info, field),
    equals,
    value,
  }));
  return {
    namespace,
    selective: labels.length > 0 || fields.length > 0,
    name: fields.find((f) => f.field === "metadata.name" && f.equals)?.value,
    matches: (entry) =>
      (namespace === "" || entry.namespace === namespace) &&
      labels.every((term) => matchesLabel(term, entry.labels)) &&
      fields.every(({ field, equals, value }) => (fieldValue(entry, field) === value) === equals),
  };
}

const fieldValue = (entry: Entry, field: string): string =>
  field === "metadata.name"
    ? entry.name
    : field === "metadata.namespace"
      ? entry.namespace
      : (entry.fields[field] ?? "");

function matchesLabel({ key, operator, values }: LabelTerm, labels: Readonly<Record<string, string>>): boolean {
  const value = labels[key];
  switch (operator) {
    case "in":
      return value !== undefined && values.includes(value);
    case "notin":
      return value === undefined || !values.includes(value);
    case "exists":
      return value !== undefined;
    case "absent":
      return value === undefined;
    case "gt":
      return value !== undefined && Number(value) > Number(values[0]);
    case "lt":
      return value !== undefined && Number(value) < Number(values[0]);
  }
}

/** `a=b,c!=d,e in (x,y),f notin (z),g,!h`. */
export function parseLabelSelector(text: string): LabelTerm[] {
  const terms: LabelTerm[] = [];
  let rest = text.trim();
  const refuse = (): never => {
    throw badRequest(`unable to parse requirement: found '${rest}' in label selector ${JSON.stringify(text)}`);
  };
  while (rest !== "") {
    const head = /^(!?)\s*([A-Za-z0-9](?:[-A-Za-z0-9_./]*[A-Za-z0-9])?)\s*/.exec(rest) ?? refuse();
    const key = head[2]!;
    rest = rest.slice(head[0].length);
    if (head[1] === "!") terms.push({ key, operator: "absent", values: [] });
    else {
      const set = /^(in|notin)\s*\(([^)]*)\)\s*/.exec(rest);
      const equality = /^(==|=|!=|>|<)\s*([-A-Za-z0-9_.]*)\s*/.exec(rest);
      if (set !== null) {
        terms.push({ key, operator: set[1] as "in" | "notin", values: set[2]!.split(",").map((v) => v.trim()) });
        rest = rest.slice(set[0].length);
      } else if (equality !== null) {
        const operator =
          equality[1] === "!=" ? "notin" : equality[1] === ">" ? "gt" : equality[1] === "<" ? "lt" : "in";
        terms.push({ key, operator, values: [equality[2]!] });
        rest = rest.slice(equality[0].length);
      } else terms.push({ key, operator: "exists", values: [] });
    }
    if (rest === "") break;
    if (!rest.startsWith(",")) refuse();
    rest = rest.slice(1).trim();
    if (rest === "") refuse();
  }
  return terms;
}

/** `a=b,c==d,e!=f`; values escape `,` `=` and `\` with a backslash. */
export function parseFieldSelector(text: string): { field: string; equals: boolean; value: string }[] {
  if (text === "") return [];
  return (
    text.match(/(?:\\.|[^,\\])+/g)?.map((term) => {
      const parts = /^([^=!]+)(==|=|!=)(.*)$/s.exec(term.trim());
      if (parts === null) throw badRequest(`invalid selector: '${text}'; can't understand '${term}'`);
      return { field: parts[1]!.trim(), equals: parts[2] !== "!=", value: parts[3]!.replace(/\\(.)/gs, "$1") };
    }) ?? []
  );
}
