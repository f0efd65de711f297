import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { Keeper, type KeeperEvent } from "../../src/keeper.ts";
import { findAdopted, isAlive, killTree, spawnDetached, waitExit } from "../../src/processes.ts";
import { freshNetns, until } from "./fixture.ts";

function freshDir(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), "ul-t-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

test("a detached process runs in its namespace with its environment and log, and can be adopted and ended", async (t) => {
  const [netns = ""] = freshNetns(t, "proc");
  const dir = freshDir(t);
  const pidFile = join(dir, "pids", "a");
  const started = spawnDetached({
    argv: ["sh", "-c", "echo $WHO; readlink /proc/self/ns/net; exec sleep 60"],
    env: { WHO: "me", PATH: "/usr/bin:/bin" },
    logFile: join(dir, "log"),
    pidFile,
    netns,
  });
  t.after(() => killTree(started));
  await until("it has written its log", () => readFileSync(join(dir, "log"), "utf8").split("\n").length === 3);
  const [who, where] = readFileSync(join(dir, "log"), "utf8").split("\n");
  assert.equal(who, "me");
  assert.notEqual(where, readlinkSync("/proc/self/ns/net"));
  assert.deepEqual(findAdopted(pidFile), started);
  assert.equal(await waitExit(started, { timeoutMs: 10 }), false);
  await killTree(started);
  assert.equal(isAlive(started), false);
  assert.equal(findAdopted(pidFile), undefined);
  assert.equal(await waitExit(started), true);
});

test("a pid that was given to another process is not adopted", (t) => {
  const dir = freshDir(t);
  const pidFile = join(dir, "a");
  writeFileSync(pidFile, `${process.pid} 1\n`);
  assert.equal(findAdopted(pidFile), undefined);
  writeFileSync(pidFile, "garbage");
  assert.equal(findAdopted(pidFile), undefined);
  assert.equal(findAdopted(join(dir, "absent")), undefined);
});

test("a process that ignores SIGTERM is killed after its grace", async (t) => {
  const dir = freshDir(t);
  const started = spawnDetached({
    argv: ["sh", "-c", 'trap "" TERM; echo ready; while :; do sleep 1; done'],
    pidFile: join(dir, "a"),
    logFile: join(dir, "log"),
  });
  await until("it ignores the signal", () => readFileSync(join(dir, "log"), "utf8") !== "");
  await killTree(started, { graceMs: 50 });
  assert.equal(isAlive(started), false);
});

test("a command that cannot be executed says so at once", (t) => {
  const dir = freshDir(t);
  assert.throws(
    () => spawnDetached({ argv: ["/nonexistent/program"], pidFile: join(dir, "a") }),
    /Cannot start \/nonexistent\/program/,
  );
});

test("a keeper starts, starts again what was killed, and leaves it to the next keeper", async (t) => {
  const dir = freshDir(t);
  const spec = { argv: ["sleep", "60"], pidFile: join(dir, "a") };
  const events: KeeperEvent[] = [];
  const first = new Keeper({ onEvent: (event) => void events.push(event) });
  t.after(() => first.stopAll());
  const { pid } = first.keep("a", spec);
  process.kill(pid, "SIGKILL");
  await until("it runs again", () => first.running().some((kept) => kept.pid !== pid));
  assert.deepEqual(
    events.map(({ what }) => what),
    ["started", "exited", "started"],
  );
  assert.equal(events[1]?.detail, "signal SIGKILL");
  const [again] = first.running();
  first.letGo();
  const second = new Keeper({ onEvent: (event) => void events.push(event) });
  t.after(() => second.stopAll());
  assert.deepEqual(second.keep("a", spec), { pid: again?.pid });
  assert.equal(events.at(-1)?.what, "adopted");
  process.kill(again?.pid ?? 0, "SIGKILL");
  await until("the adopted one runs again", () => second.running().some((kept) => kept.pid !== again?.pid));
  await second.stop("a");
  assert.deepEqual(second.running(), []);
  assert.equal(findAdopted(spec.pidFile), undefined);
});
