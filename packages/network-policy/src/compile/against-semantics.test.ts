/** The compiler and the plain reading of the API, held against each other on random clusters; and its writes, at every step between two states. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { NetworkPolicy } from "@underlay/kube/objects";
import { evaluate } from "../api/evaluate.ts";
import type { PolicyEndpoint } from "../api/policy-endpoint.ts";
import { describe, judge } from "../semantics/verdict.ts";
import { viewOfLists } from "./cluster-view.ts";
import { compilePolicy } from "./compile.ts";
import { planWrites, variantAnnotations, type Step } from "./plan.ts";
import {
  Random,
  randomCluster,
  randomLabels,
  randomPackets,
  randomSpec,
  type TestCluster,
} from "./random-cluster.test-support.ts";

const seeds = Number(process.env["UNDERLAY_TEST_CLUSTERS"] ?? 120);
const chunkSize = 3;

test("compiled PolicyEndpoints and the reading of the API agree on every packet, from nothing and after every change", () => {
  let packets = 0;
  const seen = { allowed: 0, denied: 0, byRule: 0 };
  for (let seed = 1; seed <= seeds; seed += 1) {
    const random = new Random(seed);
    const cluster = randomCluster(random);
    const stored = new StoredEndpoints();
    for (let round = 0; round < 4; round += 1) {
      stored.reconcile(cluster);
      stored.checkShape();
      for (const packet of randomPackets(random, cluster, 60)) {
        packets += 1;
        const verdict = judge(cluster, packet);
        seen[verdict.allowed ? "allowed" : "denied"] += 1;
        if (verdict.ingress.because === "rule") seen.byRule += 1;
        for (const direction of ["Ingress", "Egress"] as const) {
          const decision = direction === "Ingress" ? verdict.ingress : verdict.egress;
          // The agent, not the objects, exempts a pod's own node and itself.
          if (decision.because === "own node" || decision.because === "same pod") continue;
          const entry = evaluate(stored.objects, direction, packet);
          const said = `seed ${seed} round ${round} ${JSON.stringify(packet)}: ${describe(direction, decision)}`;
          assert.equal(entry.verdict !== "deny", decision.allowed, said);
          assert.equal(
            entry.verdict === "open",
            decision.because === "not isolated" || decision.because === "not a pod",
            said,
          );
        }
      }
      change(random, cluster);
    }
  }
  assert.ok(
    packets >= seeds * 240 && seen.allowed > packets / 10 && seen.denied > packets / 10 && seen.byRule > packets / 20,
  );
});

test("between two versions of a policy neither end denies a packet that both allow, nor allows one that both deny", () => {
  for (let seed = 1; seed <= seeds; seed += 1) {
    const random = new Random(seed + 10_000);
    const cluster = randomCluster(random);
    const policy = random.pick(cluster.policies);
    const stored = new StoredEndpoints();
    // From no policy at all, then from one version to the next.
    const before = { ...cluster, policies: cluster.policies.filter((one) => one !== policy) };
    stored.reconcile(before);
    const ends = randomPackets(random, cluster, 40).flatMap((packet) => [
      { direction: "Ingress" as const, packet },
      { direction: "Egress" as const, packet },
    ]);
    const allowedNow = (from: StoredEndpoints) =>
      ends.map(({ direction, packet }) => evaluate(from.objects, direction, packet).verdict !== "deny");
    let was = allowedNow(stored);
    for (let round = 0; round < 3; round += 1) {
      const target = stored.copy();
      target.reconcile(cluster);
      const willBe = allowedNow(target);
      for (const step of stored.plan(cluster, policy)) {
        stored.apply(step, policy);
        for (const [index, allowed] of allowedNow(stored).entries()) {
          if (was[index] !== willBe[index]) continue;
          const end = ends[index]!;
          const said = `seed ${seed} round ${round} after ${step.do}: ${end.direction} ${JSON.stringify(end.packet)}`;
          assert.equal(allowed, willBe[index], said);
        }
      }
      was = willBe;
      policy.spec = randomSpec(random);
    }
  }
});

/** What a server would hold, with the steps applied as the controller applies them. */
class StoredEndpoints {
  readonly #objects = new Map<string, PolicyEndpoint>();
  #serial = 0;
  #created = new Map<number, string>();

  get objects(): PolicyEndpoint[] {
    return [...this.#objects.values()];
  }

  copy(): StoredEndpoints {
    const copy = new StoredEndpoints();
    for (const [name, object] of this.#objects) copy.#objects.set(name, object);
    copy.#serial = this.#serial + 1000;
    return copy;
  }

  reconcile(cluster: TestCluster): void {
    for (const policy of cluster.policies) for (const step of this.plan(cluster, policy)) this.apply(step, policy);
    for (const policy of cluster.policies)
      assert.deepEqual(this.plan(cluster, policy), [], "a second look finds nothing to write");
  }

  plan(cluster: TestCluster, policy: NetworkPolicy): Step[] {
    this.#created = new Map();
    const own = this.objects.filter((object) => object.metadata.ownerReferences?.[0]?.uid === policy.metadata.uid);
    return planWrites(compilePolicy(policy, viewOfLists(cluster)), own, chunkSize);
  }

  apply(step: Step, policy: NetworkPolicy): void {
    if (step.do === "delete") {
      this.#objects.delete(step.object.metadata.name!);
      return;
    }
    const known = step.do === "update" ? (step.object?.metadata.name ?? this.#created.get(step.slot)) : undefined;
    const name = known ?? `${policy.metadata.name}-${(this.#serial += 1)}`;
    if (step.do === "create") this.#created.set(step.slot, name);
    const metadata =
      step.do === "update"
        ? this.#objects.get(name)!.metadata
        : {
            name,
            annotations: variantAnnotations(step.variant),
            ownerReferences: [{ uid: policy.metadata.uid!, name: "", kind: "NetworkPolicy", apiVersion: "" }],
          };
    this.#objects.set(name, { metadata, spec: structuredClone(step.spec) });
  }

  checkShape(): void {
    for (const { spec } of this.#objects.values()) {
      for (const list of [spec.podSelectorEndpoints, spec.ingress, spec.egress])
        assert.ok((list ?? []).length <= chunkSize);
    }
  }
}

/** Relabels a pod or a namespace, ends or starts a pod, or edits a policy. */
function change(random: Random, cluster: TestCluster): void {
  const pod = random.pick(cluster.pods);
  switch (random.below(4)) {
    case 0:
      pod.metadata.labels = randomLabels(random);
      break;
    case 1: {
      const namespace = random.pick(cluster.namespaces);
      namespace.metadata.labels = { "kubernetes.io/metadata.name": namespace.metadata.name!, ...randomLabels(random) };
      break;
    }
    case 2:
      pod.status = { ...pod.status, phase: pod.status?.phase === "Running" ? "Succeeded" : "Running" };
      break;
    default:
      random.pick(cluster.policies).spec = randomSpec(random);
  }
}
