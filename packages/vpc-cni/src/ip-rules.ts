/** The `ip rule` table of a node: pure. Which rules there should be, and what to change when others are there. */
import type { Change, Rule } from "@underlay/kernel/rtnetlink-types";
import { mainTable } from "./names.ts";

export const priority = {
  toPod: 512,
  connmark: 1024,
  externalService: 1535,
  fromPod: 1536,
  fromEni: 32765,
} as const;

/** `ip rule add fwmark 0x80/0x80 table main prio 1024`, and one `to` rule per external-service CIDR. */
export function nodeRules(settings: {
  readonly connmark: number;
  readonly nodePortSupport: boolean;
  readonly externalSnat: boolean;
  readonly externalServiceCidrs: readonly string[];
}): readonly Rule[] {
  const mark: Rule = {
    priority: priority.connmark,
    fwmark: settings.connmark,
    fwmask: settings.connmark,
    table: mainTable,
  };
  return [
    ...(settings.nodePortSupport || !settings.externalSnat ? [mark] : []),
    ...settings.externalServiceCidrs.map((to) => ({ priority: priority.externalService, to, table: mainTable })),
  ];
}

/** A pod's rules: to it by main, and from it by its ENI's table unless that is main. */
export function podRules(address: string, routeTable: number): readonly Rule[] {
  const toPod: Rule = { priority: priority.toPod, to: `${address}/32`, table: mainTable };
  const fromPod: Rule = { priority: priority.fromPod, from: `${address}/32`, table: routeTable };
  return routeTable === mainTable ? [toPod] : [toPod, fromPod];
}

export function eniRule(primaryAddress: string, routeTable: number): Rule {
  return { priority: priority.fromEni, from: `${primaryAddress}/32`, table: routeTable };
}

/** Changes that make the rules at `priorities` exactly `desired`; rules at other priorities are not looked at. */
export function diffRules(current: readonly Rule[], desired: readonly Rule[], priorities: readonly number[]): Change[] {
  const mine = current.filter((rule) => priorities.includes(rule.priority));
  const wanted = new Map(desired.map((rule) => [ruleText(rule), rule]));
  const seen = new Set<string>();
  const changes: Change[] = [];
  for (const rule of mine) {
    const text = ruleText(rule);
    // The kernel accepts the same rule only once, but a rule of another shape may say the same: keep one.
    if (wanted.has(text) && !seen.has(text)) seen.add(text);
    else changes.push({ do: "delete-rule", ...rule });
  }
  for (const [text, rule] of wanted) if (!seen.has(text)) changes.push({ do: "add-rule", ...rule });
  return changes;
}

/** The rules of one pod address that are there now: its 512 and every 1536, whatever their table. */
export function rulesOfPod(current: readonly Rule[], address: string): readonly Rule[] {
  return current.filter(
    (rule) =>
      (rule.priority === priority.toPod && withLength(rule.to) === `${address}/32`) ||
      (rule.priority === priority.fromPod && withLength(rule.from) === `${address}/32`),
  );
}

/** One line per rule, as `ip rule` words it: what diffs and tests compare. */
export function ruleText(rule: Rule): string {
  const mark =
    rule.fwmark === undefined
      ? ""
      : ` fwmark 0x${rule.fwmark.toString(16)}/0x${(rule.fwmask ?? 0xffffffff).toString(16)}`;
  return `${rule.priority}: from ${withLength(rule.from) ?? "all"}${rule.to ? ` to ${withLength(rule.to)}` : ""}${mark}${rule.iif ? ` iif ${rule.iif}` : ""} lookup ${rule.table ?? mainTable}`;
}

function withLength(address: string | undefined): string | undefined {
  return address === undefined || address.includes("/") ? address : `${address}/32`;
}
