/** Files aws-node puts on the host: plugin executables and the conflist, each replaced in one step. */
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import path from "node:path";

/** Debian's reference plugins; the same ones upstream's image carries. */
const referencePlugins = ["loopback", "portmap", "bandwidth", "host-local", "tuning"];
const referenceFolder = "/usr/lib/cni";

/** `aws-cni` as an executable: the compiled program, run by the machine's luajit. */
export function installPlugin(binDir: string, program: string): void {
  const text = readFileSync(program, "utf8");
  const body = text.startsWith("#!") ? text.slice(text.indexOf("\n") + 1) : text;
  mkdirSync(binDir, { recursive: true });
  replaceFile(path.join(binDir, "aws-cni"), `#!/usr/bin/luajit\n${body}`, 0o755);
}

/** Copies the reference plugins that are there; returns the names of those that are not. */
export function installReferencePlugins(binDir: string): readonly string[] {
  mkdirSync(binDir, { recursive: true });
  const missing: string[] = [];
  for (const name of referencePlugins) {
    const from = path.join(referenceFolder, name);
    if (!existsSync(from)) {
      missing.push(name);
      continue;
    }
    const to = path.join(binDir, name);
    copyFileSync(from, `${to}.new`);
    chmodSync(`${to}.new`, 0o755);
    renameSync(`${to}.new`, to);
  }
  return missing;
}

/** Readers see the old file or the new one. The temporary name does not end like a configuration. */
export function replaceFile(file: string, text: string, mode: number): void {
  writeFileSync(`${file}.new`, text, { mode });
  chmodSync(`${file}.new`, mode);
  renameSync(`${file}.new`, file);
}
