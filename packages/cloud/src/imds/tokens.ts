/** IMDSv2 session tokens: bound to one instance and a time, signed, nothing to store. */
import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";

export const maximumTtlSeconds = 21_600;

export class Tokens {
  readonly #key: Buffer;
  readonly #now: () => number;

  /** The key outlives a restart when the caller keeps it. */
  constructor(key: Buffer, now: () => number) {
    this.#key = key;
    this.#now = now;
  }

  issue(instanceId: string, ttlSeconds: number): string {
    const head = Buffer.concat([Buffer.alloc(6), randomBytes(10)]);
    head.writeUIntBE(Math.floor(this.#now() / 1000) + ttlSeconds, 0, 6);
    return Buffer.concat([head, this.#sign(instanceId, head)]).toString("base64url");
  }

  isValid(instanceId: string, token: string): boolean {
    const bytes = Buffer.from(token, "base64url");
    if (bytes.length !== 36) return false;
    const head = bytes.subarray(0, 16);
    return (
      timingSafeEqual(bytes.subarray(16), this.#sign(instanceId, head)) && head.readUIntBE(0, 6) * 1000 > this.#now()
    );
  }

  #sign(instanceId: string, head: Buffer): Buffer {
    return createHmac("sha256", this.#key).update(instanceId).update(head).digest().subarray(0, 20);
  }
}
