import assert from "node:assert/strict";
import { test } from "node:test";
import type { CronJob, Job } from "@underlay/kube/objects";
import { nextTime, parseSchedule } from "./cron-schedule.ts";
import { planCronJob } from "./cronjob-plan.ts";

const times: [schedule: string, after: string, next: string, zone?: string][] = [
  ["* * * * *", "2026-01-01T00:00:30Z", "2026-01-01T00:01:00.000Z"],
  ["*/15 * * * *", "2026-01-01T00:15:00Z", "2026-01-01T00:30:00.000Z"],
  ["0 9-17/4 * * mon-fri", "2026-01-02T17:30:00Z", "2026-01-05T09:00:00.000Z"],
  ["30 2 29 feb *", "2026-01-01T00:00:00Z", "2028-02-29T02:30:00.000Z"],
  ["0 0 13 * 5", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00.000Z"],
  ["@daily", "2026-01-01T12:00:00Z", "2026-01-02T05:00:00.000Z", "America/New_York"],
  ["0 0 * * 7", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00.000Z"],
];
for (const [schedule, after, next, zone] of times) {
  test(`schedule ${schedule} after ${after}${zone ? ` in ${zone}` : ""}`, () => {
    assert.equal(nextTime(parseSchedule(schedule), new Date(after), zone)?.toISOString(), next);
  });
}

test("schedules that are none are refused", () => {
  for (const bad of ["* * * *", "60 * * * *", "a * * * *", "*/0 * * * *"])
    assert.throws(() => parseSchedule(bad), /Cannot parse/, bad);
});

const cron = (more: Partial<NonNullable<CronJob["spec"]>> = {}, last?: string): CronJob => ({
  metadata: { name: "c", namespace: "n", uid: "c", creationTimestamp: "2026-01-01T00:00:00Z" },
  spec: { schedule: "*/10 * * * *", jobTemplate: { spec: { template: {} } }, ...more },
  status: last ? { lastScheduleTime: last } : {},
});
const job = (name: string, type?: string): Job => ({
  metadata: { name, creationTimestamp: name },
  status: type ? { startTime: name, conditions: [{ type, status: "True" }] } : {},
});

test("cron job starts the latest due job once, under the name of its minute", () => {
  const now = new Date("2026-01-01T00:25:00Z");
  const plan = planCronJob(cron(), [], now);
  const minute = Date.parse("2026-01-01T00:20:00Z") / 60_000;
  assert.equal(plan.create?.job.metadata.name, `c-${minute}`);
  assert.equal(plan.waitMs, 5 * 60_000);
  assert.equal(planCronJob(cron({}, "2026-01-01T00:20:00Z"), [], now).create, undefined);
  assert.equal(planCronJob(cron(), [job(`c-${minute}`)], now).create, undefined);
  assert.equal(planCronJob(cron({ suspend: true }), [], now).create, undefined);
  assert.equal(planCronJob(cron({ startingDeadlineSeconds: 60 }), [], now).create, undefined);
});

test("cron job honours its concurrency policy and history limits", () => {
  const now = new Date("2026-01-01T00:25:00Z");
  const running = [job("r")];
  assert.equal(planCronJob(cron({ concurrencyPolicy: "Forbid" }), running, now).skipped?.reason, "JobAlreadyActive");
  const replace = planCronJob(cron({ concurrencyPolicy: "Replace" }), running, now);
  assert.deepEqual([replace.create !== undefined, replace.delete.length], [true, 1]);
  const history = [job("1", "Complete"), job("2", "Complete"), job("3", "Failed"), job("4", "Failed")];
  const surplus = planCronJob(
    cron({ successfulJobsHistoryLimit: 1, failedJobsHistoryLimit: 0 }, "2026-01-01T00:20:00Z"),
    history,
    now,
  );
  assert.deepEqual(
    surplus.delete.map((one) => one.metadata.name),
    ["1", "3", "4"],
  );
});
