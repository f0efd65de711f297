/**
 * Event recorder: tells users what happened to an object (core/v1 POST, repeats become PATCHes of count).
 * Never throws and never makes its caller wait; events are best effort, as upstream.
 */
import type { Log } from "@underlay/log/log";
import { isConflict, isNamespaceTerminating, isNotFound, type KubeClient } from "./client.ts";
import { wireTime } from "./conditions.ts";
import type { Event, KubeObject } from "./objects.ts";
import { events } from "./resources.ts";

type Known = { name: string; namespace: string; count: number; lastSeen: number };
type Group = { messages: Set<string>; since: number };

/** Upstream's correlator settings: ten like events in ten minutes are combined; a burst of 25 an object, then one in five minutes. */
const aggregateAfter = 10;
const aggregateMs = 600_000;
const burst = 25;
const refillMs = 300_000;
const longestQueue = 1000;
const rememberMs = 3_600_000;

export class EventRecorder {
  readonly #client: KubeClient;
  readonly #source: { component: string; host?: string };
  readonly #log: Log | undefined;
  readonly #known = new Map<string, Known>();
  readonly #groups = new Map<string, Group>();
  readonly #buckets = new Map<string, { tokens: number; at: number }>();
  #tail: Promise<void> = Promise.resolve();
  #queued = 0;

  constructor(client: KubeClient, source: { component: string; host?: string; log?: Log }) {
    this.#client = client;
    this.#source = { component: source.component, ...(source.host ? { host: source.host } : {}) };
    this.#log = source.log;
  }

  event(object: KubeObject, type: "Normal" | "Warning", reason: string, message: string): void {
    if (this.#queued >= longestQueue) return;
    const now = Date.now();
    const about = `${object.kind}/${object.metadata.namespace ?? ""}/${object.metadata.name}/${object.metadata.uid}`;
    if (!this.#allow(about, now)) return;
    const combined = this.#combine(`${about}/${type}/${reason}`, message, now);
    this.#queued += 1;
    this.#tail = this.#tail
      .then(() =>
        this.#record(
          object,
          type,
          reason,
          combined.message,
          `${about}/${type}/${reason}/${combined.key}`,
          new Date(now),
        ),
      )
      .catch((err: unknown) => this.#log?.debug("cannot record event", { reason, err }))
      .finally(() => {
        this.#queued -= 1;
      });
  }

  /** Resolves when everything recorded so far was sent or given up. */
  async flush(): Promise<void> {
    await this.#tail;
  }

  #allow(about: string, now: number): boolean {
    const bucket = this.#buckets.get(about) ?? { tokens: burst, at: now };
    bucket.tokens = Math.min(burst, bucket.tokens + (now - bucket.at) / refillMs);
    bucket.at = now;
    this.#buckets.set(about, bucket);
    if (this.#buckets.size > 4096) this.#prune(now);
    if (bucket.tokens < 1) return false;
    bucket.tokens -= 1;
    return true;
  }

  #combine(group: string, message: string, now: number): { key: string; message: string } {
    let seen = this.#groups.get(group);
    if (!seen || now - seen.since > aggregateMs) {
      seen = { messages: new Set(), since: now };
      this.#groups.set(group, seen);
    }
    seen.messages.add(message);
    if (seen.messages.size < aggregateAfter) return { key: message, message };
    return { key: "", message: `(combined from similar events): ${message}` };
  }

  async #record(
    object: KubeObject,
    type: string,
    reason: string,
    message: string,
    key: string,
    now: Date,
  ): Promise<void> {
    const known = this.#known.get(key);
    if (known && now.getTime() - known.lastSeen < rememberMs) {
      known.count += 1;
      known.lastSeen = now.getTime();
      try {
        const body = { count: known.count, lastTimestamp: wireTime(now), message };
        await this.#client.patch(
          events,
          known.name,
          { type: "strategic", body },
          { namespace: known.namespace, retryForMs: 2_000 },
        );
        return;
      } catch (err) {
        // Expired on the server: a fresh one below.
        if (!isNotFound(err) && !isConflict(err)) throw err;
      }
    }
    const namespace = object.metadata.namespace ?? "default";
    const name = `${object.metadata.name}.${eventSuffix(now)}`;
    const event: Event = {
      apiVersion: "v1",
      kind: "Event",
      metadata: { name, namespace },
      involvedObject: {
        apiVersion: object.apiVersion,
        kind: object.kind,
        name: object.metadata.name,
        namespace: object.metadata.namespace,
        uid: object.metadata.uid,
        resourceVersion: object.metadata.resourceVersion,
      },
      reason,
      message,
      type,
      source: this.#source,
      reportingComponent: this.#source.component,
      reportingInstance: this.#source.host ?? "",
      firstTimestamp: wireTime(now),
      lastTimestamp: wireTime(now),
      count: 1,
    };
    try {
      await this.#client.create(events, event, { retryForMs: 2_000 });
      this.#known.set(key, { name, namespace, count: 1, lastSeen: now.getTime() });
      if (this.#known.size > 4096) this.#prune(now.getTime());
    } catch (err) {
      if (!isNamespaceTerminating(err)) throw err;
    }
  }

  #prune(now: number): void {
    for (const [key, { lastSeen }] of this.#known) if (now - lastSeen > aggregateMs) this.#known.delete(key);
    for (const [key, { since }] of this.#groups) if (now - since > aggregateMs) this.#groups.delete(key);
    for (const [key, { at }] of this.#buckets) if (now - at > refillMs) this.#buckets.delete(key);
  }
}

let sequence = 0;

/** As upstream: the time in hexadecimal nanoseconds; the counter keeps names of one millisecond apart. */
function eventSuffix(now: Date): string {
  sequence = (sequence + 1) % 1_000_000;
  return (BigInt(now.getTime()) * 1_000_000n + BigInt(sequence)).toString(16);
}
