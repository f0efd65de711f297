import assert from "node:assert/strict";
import { test } from "node:test";
import { timeReply } from "./time.ts";
import { Tokens } from "./tokens.ts";
import { zoneIdOf } from "./zone-id.ts";

test("a token is good for its instance, for its time, under its key", () => {
  let now = 1_000_000;
  const tokens = new Tokens(Buffer.alloc(32, 1), () => now);
  const token = tokens.issue("i-1", 60);
  assert.equal(tokens.isValid("i-1", token), true);
  assert.equal(new Tokens(Buffer.alloc(32, 1), () => now).isValid("i-1", token), true, "after a restart");
  assert.equal(tokens.isValid("i-2", token), false);
  assert.equal(new Tokens(Buffer.alloc(32, 2), () => now).isValid("i-1", token), false);
  assert.equal(tokens.isValid("i-1", `${token.slice(0, -2)}AA`), false);
  assert.equal(tokens.isValid("i-1", ""), false);
  now += 61_000;
  assert.equal(tokens.isValid("i-1", token), false);
});

test("timeReply() answers clients only, with their transmit time as origin", () => {
  const request = Buffer.alloc(48);
  request[0] = (4 << 3) | 3;
  request.write("originxx", 40);
  const reply = timeReply(request, 0)!;
  assert.equal(reply[0]! & 7, 4);
  assert.equal(reply.toString("latin1", 24, 32), "originxx");
  assert.equal(reply.readUInt32BE(40), 2_208_988_800);
  assert.equal(timeReply(reply, 0), undefined);
  assert.equal(timeReply(Buffer.alloc(10), 0), undefined);
});

test("zoneIdOf() shortens the zone's name", () => {
  assert.deepEqual(["us-west-2a", "us-east-1c", "ap-southeast-1b"].map(zoneIdOf), [
    "usw2-az1",
    "use1-az3",
    "apse1-az2",
  ]);
});
