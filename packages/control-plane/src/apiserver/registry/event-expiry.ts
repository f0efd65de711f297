/** Events live an hour after their last change. */
import { builtinResources } from "../resource-info.ts";
import type { Registry } from "./registry.ts";

const lifeMs = 3600_000;
const events = builtinResources.find((info) => info.storage === "/events")!;

/** Looks once a minute; returns the stop. */
export function expireEvents(registry: Registry, now: () => number): () => void {
  const timer = setInterval(() => {
    for (const entry of registry.store.list(events.storage)) {
      const event = JSON.parse(entry.json);
      const last = Date.parse(
        event.lastTimestamp ?? event.series?.lastObservedTime ?? event.eventTime ?? event.metadata.creationTimestamp,
      );
      if (now() - last > lifeMs) registry.remove(events, event);
    }
  }, 60_000);
  timer.unref();
  return () => clearInterval(timer);
}
