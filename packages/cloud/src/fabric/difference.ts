/** What turns one set of items into another. Pure. */
import { keyOf, valueOf, type Item, type Items } from "./items.ts";

export type Difference = {
  readonly add: readonly Item[];
  readonly remove: readonly Item[];
  /** Same identity, other content. */
  readonly replace: readonly { readonly from: Item; readonly to: Item }[];
};

export function differenceOf(before: Items, after: Items): Difference {
  const add: Item[] = [];
  const replace: { from: Item; to: Item }[] = [];
  for (const [key, to] of after) {
    const from = before.get(key);
    if (from === undefined) add.push(to);
    else if (from !== to && valueOf(from) !== valueOf(to)) replace.push({ from, to });
  }
  const remove = [...before].filter(([key]) => !after.has(key)).map(([, item]) => item);
  return { add, remove, replace };
}

export const isEmpty = ({ add, remove, replace }: Difference): boolean =>
  add.length === 0 && remove.length === 0 && replace.length === 0;

/**
 * A link that is made anew takes with it what hung on it: those items, though unchanged, must be made again.
 * `wanted` is everything that should be there in the end.
 */
export function withDependents(difference: Difference, wanted: Iterable<Item>): Difference {
  const fresh = new Set<string>();
  for (const item of [...difference.add, ...difference.replace.map(({ to }) => to)]) {
    if (item.kind !== "veth") continue;
    fresh.add(`${item.netns} ${item.name}`).add(`${item.peer.netns} ${item.peer.name}`);
  }
  if (fresh.size === 0) return difference;
  const planned = new Set([...difference.add, ...difference.replace.map(({ to }) => to)].map(keyOf));
  const again: Item[] = [];
  for (const item of wanted) {
    const dev = deviceOf(item);
    if (dev !== undefined && fresh.has(`${item.netns} ${dev}`) && !planned.has(keyOf(item))) again.push(item);
  }
  return { ...difference, add: [...difference.add, ...again] };
}

function deviceOf(item: Item): string | undefined {
  switch (item.kind) {
    case "address":
    case "lease":
      return item.dev;
    case "route":
      return item.route.dev;
    case "neighbour":
      return item.neighbour.dev;
    default:
      return undefined;
  }
}

/** A short account for the log: `3 route, 1 veth`. */
export function summarise(items: readonly Item[]): string {
  const counts = new Map<string, number>();
  for (const { kind } of items) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  return [...counts].map(([kind, count]) => `${count} ${kind}`).join(", ");
}
