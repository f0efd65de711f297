/** The command line: reads arguments, calls the lab, prints. No decision about clusters is made here. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { Command } from "commander";
import { parseClusterFile, defaultPlan } from "@underlay/lab/cluster-file";
import { listClusters, placesOf, readRecord, requireRecord, stateRoot } from "@underlay/lab/places";
import { addPlanCommands } from "./plan.ts";
import { printFindings, printStatus, reportFailure, showProgress } from "./print.ts";

const root = stateRoot(process.env);
const manifest = createRequire(import.meta.url)("../../../package.json") as { version: string };

const program = new Command("underlay")
  .description("A whole EKS cluster network on one Linux machine, with real packets.")
  .version(manifest.version)
  .showHelpAfterError();

/** The named cluster, or the only one there is, or the default name. */
function clusterName(option: string | undefined): string {
  const clusters = listClusters(root);
  return (
    option ?? process.env["UNDERLAY_CLUSTER"] ?? (clusters.length === 1 ? clusters[0] : undefined) ?? defaultPlan.name
  );
}

const clusterOption = ["-c, --cluster <name>", "which cluster, when there are several"] as const;

program
  .command("up")
  .description("start a cluster (or finish starting, or find it running)")
  .option(
    "-f, --file <cluster.yaml>",
    "an eksctl ClusterConfig; without it: three m5.large nodes in the workshop's VPC",
  )
  .option("--name <name>", "name of the cluster when there is no file")
  .option("--json", "print the result as JSON")
  .action(async (options: { file?: string; name?: string; json?: boolean }) => {
    const { kernelFindings } = await import("@underlay/lab/doctor");
    const broken = kernelFindings().filter(({ state }) => state === "fail");
    if (broken.length > 0) {
      printFindings(broken);
      process.exitCode = 1;
      return;
    }
    const plan = options.file
      ? parseClusterFile(readFileSync(options.file, "utf8"), options.file)
      : { ...defaultPlan, name: options.name ?? defaultPlan.name };
    const { up } = await import("@underlay/lab/up");
    const progress = showProgress(options.json === true);
    const result = await up(root, plan, progress.step);
    progress.end();
    if (options.json)
      console.log(JSON.stringify({ cluster: plan.name, alreadyUp: result.alreadyUp, tookMs: result.tookMs }));
    else console.log(whatNext(plan.name, result.alreadyUp, result.tookMs));
  });

program
  .command("down")
  .description("take a cluster away: processes, namespaces, state")
  .option(...clusterOption)
  .option("--all", "every cluster with state here")
  .action(async (options: { cluster?: string; all?: boolean }) => {
    const { down } = await import("@underlay/lab/down");
    const names = options.all ? listClusters(root) : [clusterName(options.cluster)];
    for (const name of names) {
      const places = placesOf(root, name);
      const record = readRecord(places);
      if (!record) {
        console.log(`cluster ${name} is not there`);
        continue;
      }
      const result = await down(places, record);
      console.log(`cluster ${name} is gone (${result.processes} processes, ${result.namespaces} network namespaces)`);
    }
  });

program
  .command("status")
  .description("what runs, and what does not")
  .option(...clusterOption)
  .option("--json", "as JSON")
  .action(async (options: { cluster?: string; json?: boolean }) => {
    const { readStatus } = await import("@underlay/lab/status");
    const places = placesOf(root, clusterName(options.cluster));
    const status = await readStatus(places, requireRecord(places));
    if (options.json) console.log(JSON.stringify(status, null, 2));
    else printStatus(status);
    if (status.problem) process.exitCode = 1;
  });

program
  .command("env")
  .description('variables for kubectl and aws: eval "$(./underlay env)"')
  .option(...clusterOption)
  .option("--json", "as JSON")
  .action(async (options: { cluster?: string; json?: boolean }) => {
    const { formatExports, hostEnvironment } = await import("@underlay/lab/access");
    const places = placesOf(root, clusterName(options.cluster));
    const environment = await hostEnvironment(places, requireRecord(places));
    process.stdout.write(options.json ? `${JSON.stringify(environment, null, 2)}\n` : formatExports(environment));
  });

program
  .command("shell")
  .description("a shell on the cluster's internet, where AWS's names resolve; -- COMMAND runs one command there")
  .option(...clusterOption)
  .argument("[command...]")
  .action(async (command: string[], options: { cluster?: string }) => {
    const { operatorShell } = await import("@underlay/lab/access");
    const { spawnSync } = await import("node:child_process");
    const places = placesOf(root, clusterName(options.cluster));
    const { argv, env } = await operatorShell(places, requireRecord(places), command);
    const [file = "", ...args] = argv;
    const result = spawnSync(file, args, { env, stdio: "inherit" });
    process.exitCode = result.status ?? 1;
  });

const fault = program.command("fault").description("make the cluster's AWS slow, wrong or late, on purpose");

fault
  .command("set")
  .description("latency | throttle | error | deny | visibility | imds-lag | attach-time")
  .argument("<kind>")
  .option(...clusterOption)
  .option("--action <pattern>", "which calls: CreateNetworkInterface, Describe*, eks:*; all without it")
  .option("--principal <pattern>", "whose calls, by ARN: *:assumed-role/eks-node-role/*")
  .option("--ms <n>", "how long", Number)
  .option("--burst <n>", "throttle: size of the bucket", Number)
  .option("--per-second <n>", "throttle: refill", Number)
  .option("--code <code>", "error: AWS's code; ConnectionReset closes the connection instead of answering")
  .option("--message <text>", "error: its text")
  .option("--status <n>", "error: its HTTP status", Number)
  .option("--rate <0..1>", "share of the calls that are struck", Number)
  .option("--count <n>", "how many calls are struck", Number)
  .option("--after", "error: the call does its work, only the answer is wrong")
  .action(async (kind: string, options: Record<string, unknown> & { cluster?: string }) => {
    const { setFault } = await import("@underlay/lab/faults");
    const { cluster, after, ...fields } = options;
    const record = requireRecord(placesOf(root, clusterName(cluster)));
    const made = await setFault(record, { kind, ...fields, ...(after === true ? { when: "after" } : {}) });
    console.log(`${made.id} is set; clear it: ./underlay fault clear ${made.id}`);
  });

fault
  .command("list")
  .description("what is set, and how often it struck")
  .option(...clusterOption)
  .option("--json", "as JSON")
  .action(async (options: { cluster?: string; json?: boolean }) => {
    const { listFaults } = await import("@underlay/lab/faults");
    const faults = await listFaults(requireRecord(placesOf(root, clusterName(options.cluster))));
    if (options.json) console.log(JSON.stringify(faults, null, 2));
    else if (faults.length === 0) console.log("no faults are set");
    else
      for (const { id, kind, struck, ...fields } of faults) {
        const text = Object.entries(fields).map(([name, value]) => `${name}=${String(value)}`);
        console.log([id, kind, ...text, `struck=${String(struck)}`].join("  "));
      }
  });

fault
  .command("clear")
  .description("take one fault away, or all")
  .argument("[id]")
  .option(...clusterOption)
  .action(async (id: string | undefined, options: { cluster?: string }) => {
    const { clearFaults } = await import("@underlay/lab/faults");
    const cleared = await clearFaults(requireRecord(placesOf(root, clusterName(options.cluster))), id);
    console.log(`${cleared} cleared`);
  });

program
  .command("doctor")
  .description("what this machine has and lacks")
  .option("--json", "as JSON")
  .action(async (options: { json?: boolean }) => {
    const { examineMachine } = await import("@underlay/lab/doctor");
    const findings = examineMachine(root);
    if (options.json) console.log(JSON.stringify(findings, null, 2));
    else printFindings(findings);
    if (findings.some(({ state }) => state === "fail")) process.exitCode = 1;
  });

addPlanCommands(program);

program
  .command("test")
  .description("every test; or only some rings: check, pure, kernel, wire, e2e, faults")
  .argument("[rings...]")
  .action(async (rings: string[]) => {
    const { runRings } = await import("./rings.ts");
    process.exitCode = await runRings(rings);
  });

function whatNext(name: string, alreadyUp: boolean, tookMs: number): string {
  const head = alreadyUp ? `Cluster ${name} is up.` : `Cluster ${name} is up after ${(tookMs / 1000).toFixed(1)} s.`;
  return [
    "",
    head,
    "",
    'Next:   eval "$(./underlay env)"',
    "        kubectl get nodes -o wide",
    "        kubectl apply -k examples/retail-store",
    "        aws ec2 describe-network-interfaces --query 'NetworkInterfaces[].[NetworkInterfaceId,PrivateIpAddress,Description]' --output table",
    "        ./underlay shell        a place on the cluster's internet",
    "        ./underlay down",
  ].join("\n");
}

try {
  await program.parseAsync();
} catch (err) {
  reportFailure(err);
  process.exitCode = 1;
}
