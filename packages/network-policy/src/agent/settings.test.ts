import assert from "node:assert/strict";
import { test } from "node:test";
import { readSettings } from "./settings.ts";

test("readSettings() has upstream's defaults: policies off, ports 8162 and 8163", () => {
  const settings = readSettings([], { MY_NODE_NAME: "n1" });
  assert.equal(settings.enabled, false);
  assert.deepEqual([settings.metrics.port, settings.health.port, settings.nodeName], [8162, 8163, "n1"]);
});

test("readSettings() reads --flag=value, --flag value and --flag", () => {
  const settings = readSettings(
    [
      "--enable-network-policy",
      "--log-level",
      "info",
      "--metrics-bind-addr=127.0.0.1:9",
      "--enable-policy-event-logs=true",
    ],
    {},
  );
  assert.deepEqual(
    [settings.enabled, settings.eventLogs, settings.logLevel, settings.metrics],
    [true, true, "info", { host: "127.0.0.1", port: 9 }],
  );
});

for (const flag of [
  "--enable-cloudwatch-logs=true",
  "--no-such-flag",
  "--enable-network-policy=maybe",
  "--metrics-bind-addr=x",
  "--conntrack-cache-table-size=5",
]) {
  test(`readSettings() refuses ${flag} by its name`, () =>
    assert.throws(() => readSettings([flag], {}), new RegExp(flag.split("=")[0] as string)));
}
