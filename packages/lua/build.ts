/**
 * Compiles the LuaJIT programs: `node packages/lua/build.ts <repoDir>`.
 * Each entry becomes one file `.build/lua/<name>.lua`, executable by Debian's `luajit`; entries whose sources did not change are
 * skipped. `build.ts <repoDir> <entry.ts> <out.lua>` compiles just that one.
 */
import { createHash } from "node:crypto";
import { existsSync, globSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const repo = path.resolve(process.argv[2] ?? ".");
const here = path.join(repo, "packages/lua");
const out = path.join(repo, ".build/lua");

/** Every file directly in a package's `src-lua/` that says so on its first line is a program; others are modules of them. */
const programs = globSync("packages/*/src-lua/*.ts", { cwd: repo })
  .sort()
  .map((file) => path.join(repo, file))
  .filter((file) => readFileSync(file, "utf8").startsWith("// luajit program"))
  .map((entry) => ({ name: path.basename(entry, ".ts"), entry }));

mkdirSync(out, { recursive: true });
const single = process.argv[3];
if (single !== undefined)
  compile(path.resolve(single), process.argv[4] ?? path.join(out, `${path.basename(single, ".ts")}.lua`));
else buildAll();

function buildAll(): void {
  const stampFile = path.join(out, ".stamp");
  const stamp = sourcesHash();
  const done = existsSync(stampFile) && readFileSync(stampFile, "utf8") === stamp;
  if (done && programs.every(({ name }) => existsSync(path.join(out, `${name}.lua`)))) return;
  for (const program of programs) compile(program.entry, path.join(out, `${program.name}.lua`));
  writeFileSync(stampFile, stamp);
}

function sourcesHash(): string {
  const hash = createHash("sha256");
  for (const file of globSync(["packages/*/src-lua/**/*.ts", "packages/lua/src/*.ts", "packages/lua/build.ts"], {
    cwd: repo,
  }).sort())
    hash.update(file).update(readFileSync(path.join(repo, file)));
  return hash.digest("hex");
}

/** The file behind an import: the compiler itself knows neither `.ts` endings nor the workspaces' names. */
function resolveModule(specifier: string, importer: string): string | undefined {
  const own = /^@underlay\/lua\/(.+?)(\.ts)?$/.exec(specifier);
  if (own) return path.join(here, "src", `${own[1]}.ts`);
  return specifier.startsWith(".")
    ? path.resolve(path.dirname(importer), specifier.replace(/(\.ts)?$/, ".ts"))
    : undefined;
}

function compile(entry: string, file: string): void {
  const require = createRequire(path.join(here, "package.json"));
  const tstl = require("typescript-to-lua");
  const ts = require("typescript");
  const options = {
    strict: true,
    target: ts.ScriptTarget.ESNext,
    lib: ["lib.esnext.d.ts"],
    module: ts.ModuleKind.ESNext,
    moduleResolution: ts.ModuleResolutionKind.Bundler,
    allowImportingTsExtensions: true,
    rewriteRelativeImportExtensions: true,
    noEmitOnError: true,
    types: [],
    skipLibCheck: true,
    rootDir: repo,
    outDir: out,
    paths: { "@underlay/lua/*": [path.join(here, "src/*.ts")] },
    luaTarget: "JIT",
    luaLibImport: "require-minimal",
    luaBundle: `${file}.bundle`,
    luaBundleEntry: entry,
    noImplicitSelf: true,
    noHeader: true,
    noResolvePaths: ["ffi", "jit", "bit"],
    luaPlugins: [{ plugin: { moduleResolution: resolveModule } }],
  };
  const host = { ...ts.sys, getCurrentDirectory: () => here };
  const ambient = [
    path.join(here, "src/luajit.d.ts"),
    require.resolve("lua-types/jit.d.ts"),
    require.resolve("@typescript-to-lua/language-extensions/index.d.ts"),
  ];
  const program = ts.createProgram([entry, ...ambient], options, ts.createCompilerHost(options));
  const diagnostics = [...ts.getPreEmitDiagnostics(program)];
  let text = "";
  if (diagnostics.length === 0) {
    const result = new tstl.Transpiler({ emitHost: host }).emit({
      program,
      writeFile: (_name: string, content: string) => (text = content),
    });
    diagnostics.push(...result.diagnostics);
  }
  const errors = diagnostics.filter((d) => d.category === ts.DiagnosticCategory.Error);
  if (errors.length > 0 || text === "") {
    process.stderr.write(
      ts.formatDiagnostics(errors, {
        getCanonicalFileName: (f: string) => f,
        getCurrentDirectory: () => repo,
        getNewLine: () => "\n",
      }),
    );
    process.stderr.write(`Cannot compile ${path.relative(repo, entry)} for LuaJIT: ${errors.length} errors\n`);
    process.exit(1);
  }
  writeFileSync(`${file}.${process.pid}`, `#!/usr/bin/env luajit\n${text}`, { mode: 0o755 });
  renameSync(`${file}.${process.pid}`, file);
}
