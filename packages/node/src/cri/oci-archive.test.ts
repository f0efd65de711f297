import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { layer, ociArchive } from "./oci-archive.ts";
import { folderEntries, tar } from "./tar.ts";

test("a folder goes through a tar as it was, also with a name of over 100 characters", () => {
  const dir = mkdtempSync(join(tmpdir(), "ul-tar-"));
  try {
    const long = `${"d".repeat(80)}/${"f".repeat(80)}`;
    mkdirSync(join(dir, "in", "d".repeat(80)), { recursive: true });
    writeFileSync(join(dir, "in", long), "content", { mode: 0o640 });
    symlinkSync("../elsewhere", join(dir, "in/link"));
    writeFileSync(join(dir, "a.tar"), tar(folderEntries(join(dir, "in"))));
    mkdirSync(join(dir, "out"));
    execFileSync("tar", ["-xf", join(dir, "a.tar"), "-C", join(dir, "out")]);
    assert.equal(readFileSync(join(dir, "out", long), "utf8"), "content");
    assert.equal(statSync(join(dir, "out", long)).mode & 0o777, 0o640);
    assert.equal(readlinkSync(join(dir, "out/link")), "../elsewhere");
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test("the same files give the same archive; images share a layer's blob", () => {
  const build = () => {
    const shared = layer([{ type: "file", path: "a", data: Buffer.from("a") }]);
    const image = (name: string) => ({ names: [name], layers: [shared], config: { Cmd: [name] } });
    return ociArchive([image("x/a:1"), image("x/b:1")], "amd64");
  };
  assert.ok(build().equals(build()));
  const names =
    build()
      .toString("latin1")
      .match(/blobs\/sha256\/[0-9a-f]{64}/g) ?? [];
  // One layer, two configurations, two manifests.
  assert.equal(new Set(names).size, 5);
});
