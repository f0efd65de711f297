/** Prints what one more ENI, address or group member costs as a VPC grows: `node packages/cloud/test/kernel/eni-cost.ts [enis]`. */
import { openFabric, removeNamespaces } from "../../src/fabric/fabric.ts";
import { addInstance, addSecondEni, addSubnet, addVpc, copy, emptyState, newClusterId, type State } from "./world.ts";

const total = Number(process.argv[2] ?? 1000);
const clusterId = newClusterId();
const fabric = await openFabric({ clusterId, stateDir: "", auditMs: 0 });
const out = (text: string): void => void process.stdout.write(`${text}\n`);

try {
  const state = emptyState(clusterId);
  addVpc(state, "vpc-1", "10.0.0.0/8");
  const subnet = addSubnet(state, "vpc-1", "10.1.0.0/16");
  await fabric.apply(state, "everything");
  const marks = new Set([1, 10, 100, 250, 500, 1000, total]);
  const recent: number[] = [];
  for (let index = 1; index <= total; index++) {
    const instanceId = `i-${Math.ceil(index / 4)}`;
    // Four ENIs an instance; the namespace is counted apart.
    const isFirst = (index - 1) % 4 === 0;
    if (isFirst) {
      addInstance(state, instanceId, subnet, { host: 10 + index * 30 });
      state.instances.push(state.instances.pop()!);
      const bare: State = { ...state, enis: state.enis.slice(0, -1) };
      await fabric.apply(bare, { kinds: ["instances"], ids: [] });
    } else addSecondEni(state, instanceId, subnet, (index - 1) % 4, { host: 10 + index * 30 });
    recent.push(await took(() => fabric.apply({ ...state }, { kinds: ["enis"], ids: [] })));
    if (recent.length > 9) recent.shift();
    if (marks.has(index)) {
      const address = copy(state);
      address.enis[index - 1] = {
        ...address.enis[index - 1]!,
        addresses: [...address.enis[index - 1]!.addresses, { address: `10.1.255.${index % 250}` }],
      };
      const added = await took(() => fabric.apply(address, { kinds: ["enis"], ids: [] }));
      const removed = await took(() => fabric.apply({ ...state }, { kinds: ["enis"], ids: [] }));
      const audit = await took(() => fabric.audit());
      out(
        `ENI #${index}: ${median(recent)} ms (median of the last ${recent.length}); one address more ${added} ms, less ${removed} ms; drift check ${audit} ms`,
      );
    }
  }
} finally {
  await fabric.close();
  removeNamespaces(clusterId);
}

async function took(work: () => Promise<void>): Promise<number> {
  const started = performance.now();
  await work();
  return Math.round((performance.now() - started) * 100) / 100;
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
}
