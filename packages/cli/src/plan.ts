/** `underlay plan`: what would fit, worked out without a cluster. Prints what `explain` says. */
import type { Command } from "commander";
import { UnderlayError } from "@underlay/log/underlay-error";

type MaxPodsOptions = {
  readonly instanceType?: string;
  readonly all?: boolean;
  readonly prefix?: boolean;
  readonly custom?: boolean;
  readonly cap?: boolean;
  readonly json?: boolean;
};

/** Adds `plan` and what is below it. */
export function addPlanCommands(program: Command): void {
  const plan = program.command("plan").description("what would fit, without a cluster");
  plan
    .command("max-pods")
    .description("pods a node of an instance type can run")
    .option("-t, --instance-type <type>", "an EC2 instance type")
    .option("--all", "every instance type")
    .option("--prefix", "with prefix delegation (/28)")
    .option("--custom", "with custom networking: the primary ENI gives pods nothing")
    .option("--cap", "with the cap of managed node groups: 110 up to 30 vCPUs, 250 above")
    .option("--json", "as JSON; with --all an object from type to pods")
    .action(printMaxPods);
}

async function printMaxPods(options: MaxPodsOptions): Promise<void> {
  const { findMaxPods } = await import("@underlay/explain/max-pods");
  if (options.all) {
    const { allInstanceLimits } = await import("@underlay/explain/instance-limits");
    const rows = [...allInstanceLimits().keys()].map((type) => [type, findMaxPods(type, options)?.pods ?? 0] as const);
    if (options.json) console.log(JSON.stringify(Object.fromEntries(rows), null, 2));
    else console.log(rows.map(([type, pods]) => `${type} ${pods}`).join("\n"));
    return;
  }
  if (!options.instanceType)
    throw new UnderlayError("NoInstanceType", "Cannot plan max pods: no instance type is given", {
      hint: "underlay plan max-pods --instance-type m5.large, or --all",
    });
  const answer = findMaxPods(options.instanceType, options);
  if (!answer)
    throw new UnderlayError(
      "UnknownInstanceType",
      `Cannot plan max pods: ${options.instanceType} is no known instance type`,
      {
        hint: "underlay plan max-pods --all lists them",
      },
    );
  if (options.json) console.log(JSON.stringify({ instanceType: options.instanceType, ...answer }, null, 2));
  else console.log(`${answer.pods}\n${answer.because}`);
}
