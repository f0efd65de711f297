/** Texts several printers share: selectors, image lists, percentages. */
import type { Stored } from "./columns.ts";

export const none = "<none>";

/** `a=b,c in (d,e)`, or `<none>`. */
export function selectorText(selector: Stored): string {
  const parts: string[] = [];
  for (const [key, value] of Object.entries(selector?.matchLabels ?? {}).sort()) parts.push(`${key}=${String(value)}`);
  for (const { key, operator, values } of selector?.matchExpressions ?? []) {
    const list = [...(values ?? [])].sort().join(",");
    if (operator === "Exists") parts.push(key);
    else if (operator === "DoesNotExist") parts.push(`!${key}`);
    else parts.push(`${key} ${operator === "In" ? "in" : "notin"} (${list})`);
  }
  return parts.length ? parts.join(",") : none;
}

/** `a=b,c=d`, or `<none>`. */
export function labelsText(labels: Record<string, string> | undefined): string {
  const parts = Object.entries(labels ?? {})
    .sort()
    .map(([key, value]) => `${key}=${value}`);
  return parts.length ? parts.join(",") : none;
}

export function containerNames(template: Stored): string {
  return (template?.spec?.containers ?? []).map((c: Stored) => c.name).join(",");
}

export function containerImages(template: Stored): string {
  return (template?.spec?.containers ?? []).map((c: Stored) => c.image ?? "").join(",");
}

/** The first `shown` items and how many more there are. */
export function listWithMore(items: readonly string[], shown: number): string {
  if (items.length === 0) return none;
  if (items.length <= shown) return items.join(",");
  return `${items.slice(0, shown).join(",")} + ${items.length - shown} more...`;
}
