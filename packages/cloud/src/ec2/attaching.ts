/** How long attaching takes: no time, unless the fault attach-time says otherwise. */
import type { World } from "../store/kinds.ts";
import type { Eni } from "./network-interfaces.ts";

/** Whether the attachment is still under way. */
export function isAttaching(world: World, { attachment }: Eni): boolean {
  return attachment?.readyAt !== undefined && Date.parse(attachment.readyAt) > world.now().getTime();
}

export function readyAfter(world: World): { readyAt?: string } {
  const ms = world.attachMs?.() ?? 0;
  return ms === 0 ? {} : { readyAt: new Date(world.now().getTime() + ms).toISOString() };
}
