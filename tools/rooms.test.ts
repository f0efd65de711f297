/**
 * Holds the rooms apart: what a package may import (ARCHITECTURE.md), declared dependencies, no cycles between packages or files,
 * no relative import that leaves its package, and the kernel's doors (child_process, net, FFI) only where they belong.
 */
import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { test } from "node:test";

const root = resolve(import.meta.dirname, "..");

/** Sibling rooms each room may import. `lab` sees everything; only `cli` sees `lab`. */
const mayImport: Record<string, readonly string[]> = {
  addr: [],
  log: [],
  pki: [],
  lua: [],
  images: [],
  explain: [],
  kernel: ["addr"],
  kube: ["log"],
  aws: ["log"],
  "vpc-cni": ["addr", "kernel", "kube", "aws", "log"],
  "service-proxy": ["addr", "kernel", "kube", "log"],
  "cluster-dns": ["kube", "log"],
  cloud: ["addr", "kernel", "aws", "pki", "log"],
  "control-plane": ["addr", "kernel", "kube", "pki", "log"],
  node: ["addr", "kernel", "kube", "aws", "pki", "images", "log"],
  lab: ["addr", "kernel", "kube", "aws", "pki", "images", "log"],
  cli: ["lab", "explain", "log"],
};

/** Only these may load native code: one module, so that it can be swapped. */
const ffiModules = new Set(["packages/kernel/src/ffi.ts"]);

type Import = { readonly from: string; readonly specifier: string; readonly typeOnly: boolean };

const files = globSync("packages/*/{src,test}/**/*.ts", { cwd: root }).filter((file) => !file.endsWith(".d.ts"));
const imports = files.flatMap((file) => importsOf(file));

function importsOf(file: string): Import[] {
  const text = readFileSync(join(root, file), "utf8");
  const found: Import[] = [];
  const statement =
    /^\s*(import|export)\s+(type\s+)?[^;"']*?\bfrom\s*["']([^"']+)["']|^\s*import\s*["']([^"']+)["']|\bimport\(\s*["']([^"']+)["']\s*\)/gm;
  for (const match of text.matchAll(statement)) {
    const specifier = match[3] ?? match[4] ?? match[5];
    if (specifier) found.push({ from: file, specifier, typeOnly: match[2] !== undefined });
  }
  return found;
}

const roomOf = (file: string): string => file.split("/")[1] ?? "";
const isTest = (file: string): boolean => file.endsWith(".test.ts") || file.split("/")[2] === "test";

test("every room is listed with what it may import", () => {
  const rooms = globSync("packages/*/package.json", { cwd: root }).map((path) => path.split("/")[1] ?? "");
  assert.deepEqual(rooms.sort(), Object.keys(mayImport).sort());
});

test("rooms import only the rooms they may, and declare every package they import", () => {
  const wrong: string[] = [];
  for (const { from, specifier } of imports) {
    if (specifier.startsWith(".") || specifier.startsWith("node:")) continue;
    if (specifier === "ffi" || specifier === "jit") continue; // LuaJIT's own modules
    const room = roomOf(from);
    const name = specifier
      .split("/")
      .slice(0, specifier.startsWith("@") ? 2 : 1)
      .join("/");
    const manifest = JSON.parse(readFileSync(join(root, "packages", room, "package.json"), "utf8"));
    const declared = {
      ...manifest.dependencies,
      ...manifest.devDependencies,
    };
    if (!(name in declared) && name !== `@underlay/${room}`)
      wrong.push(`${from} imports ${name}, which its package.json does not declare`);
    const sibling = name.startsWith("@underlay/") ? name.slice("@underlay/".length) : undefined;
    if (sibling && sibling !== room && !isTest(from) && !mayImport[room]?.includes(sibling))
      wrong.push(`${from} imports room ${sibling}`);
  }
  assert.deepEqual(wrong, []);
});

test("relative imports stay in their room", () => {
  const wrong = imports
    .filter(({ specifier }) => specifier.startsWith("."))
    .filter(({ from, specifier }) => roomOf(relative(root, resolve(root, dirname(from), specifier))) !== roomOf(from))
    .map(({ from, specifier }) => `${from} → ${specifier}`);
  assert.deepEqual(wrong, []);
});

test("files import each other without cycles at run time", () => {
  const graph = new Map<string, string[]>();
  for (const { from, specifier, typeOnly } of imports) {
    if (typeOnly || !specifier.startsWith(".")) continue;
    const target = relative(root, resolve(root, dirname(from), specifier));
    graph.set(from, [...(graph.get(from) ?? []), target]);
  }
  assert.deepEqual(findCycles(graph), []);
});

test("native code is loaded by the kernel's FFI module only", () => {
  const wrong = imports
    .filter(({ from, specifier }) => specifier === "koffi" && !ffiModules.has(from))
    .map(({ from }) => from);
  assert.deepEqual(wrong, []);
});

test("components start no processes except where the sheet says so", () => {
  const allowed = new Set(["packages/vpc-cni/src/iptables.ts"]);
  const components = ["vpc-cni", "service-proxy", "cluster-dns"];
  const wrong = imports
    .filter(
      ({ from, specifier }) =>
        specifier === "node:child_process" && components.includes(roomOf(from)) && !isTest(from) && !allowed.has(from),
    )
    .map(({ from }) => from);
  assert.deepEqual(wrong, []);
});

function findCycles(graph: ReadonlyMap<string, readonly string[]>): string[] {
  const state = new Map<string, "open" | "done">();
  const cycles: string[] = [];
  const visit = (file: string, path: readonly string[]): void => {
    if (state.get(file) === "done") return;
    if (state.get(file) === "open") {
      cycles.push([...path.slice(path.indexOf(file)), file].join(" → "));
      return;
    }
    state.set(file, "open");
    for (const next of graph.get(file) ?? []) visit(next, [...path, file]);
    state.set(file, "done");
  };
  for (const file of graph.keys()) visit(file, []);
  return cycles;
}
