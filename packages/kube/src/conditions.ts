/** Status conditions: lists keyed by type whose lastTransitionTime only moves with the status. */

type ConditionLike = { type: string; status: string; lastTransitionTime?: string | undefined };

export function findCondition<C extends ConditionLike>(
  conditions: readonly C[] | undefined,
  type: string,
): C | undefined {
  return conditions?.find((condition) => condition.type === type);
}

/** The list with `condition` in place of its namesake; lastTransitionTime is kept while the status stays the same. */
export function setCondition<C extends ConditionLike>(
  conditions: readonly C[] | undefined,
  condition: C,
  now: Date,
): C[] {
  const old = findCondition(conditions, condition.type);
  const lastTransitionTime = old && old.status === condition.status ? old.lastTransitionTime : wireTime(now);
  const next = { ...condition, lastTransitionTime };
  const list = [...(conditions ?? [])];
  const at = list.findIndex((one) => one.type === condition.type);
  if (at < 0) list.push(next);
  else list[at] = next;
  return list;
}

/** A Time as the wire has it: whole seconds. */
export function wireTime(date: Date): string {
  return date.toISOString().replace(/\.\d+Z$/, "Z");
}

/** A MicroTime as the wire has it: six fractional digits. */
export function wireMicroTime(date: Date): string {
  return date.toISOString().replace("Z", "000Z");
}
