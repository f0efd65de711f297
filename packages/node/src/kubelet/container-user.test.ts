import assert from "node:assert/strict";
import { test } from "node:test";
import type { Container, Pod } from "@underlay/kube/objects";
import { containerUser, nonRootViolation } from "./container-user.ts";

const pod = (securityContext: object = {}): Pod =>
  ({ metadata: { name: "p", namespace: "n", uid: "u" }, spec: { containers: [], securityContext } }) as unknown as Pod;
const container = (securityContext: object = {}): Container => ({ name: "c", securityContext }) as Container;
const netAdmin = 12;
const netRaw = 13;

test("the container's context wins over the pod's, the pod's over the image's", () => {
  assert.equal(containerUser(pod(), container(), { uid: 5, gid: 6 }).uid, 5);
  assert.equal(containerUser(pod({ runAsUser: 7 }), container(), { uid: 5, gid: 6 }).uid, 7);
  assert.equal(containerUser(pod({ runAsUser: 7 }), container({ runAsUser: 8 }), undefined).uid, 8);
  assert.deepEqual(
    containerUser(pod({ runAsUser: 1000, fsGroup: 2000, supplementalGroups: [3000] }), container(), undefined),
    {
      ...containerUser(pod({ runAsUser: 1000 }), container(), undefined),
      groups: [1000, 3000, 2000],
    },
  );
});

test("capabilities: the runtime's defaults, changed by add and drop; all when privileged", () => {
  const has = (context: object, cap: number) =>
    containerUser(pod(), container(context), undefined).capabilities?.includes(cap);
  assert.equal(has({}, netRaw), true);
  assert.equal(has({}, netAdmin), false);
  assert.equal(has({ capabilities: { add: ["NET_ADMIN"], drop: ["ALL"] } }, netAdmin), true);
  assert.equal(has({ capabilities: { add: ["NET_ADMIN"], drop: ["ALL"] } }, netRaw), false);
  assert.equal(has({ privileged: true }, netAdmin), undefined);
});

test("runAsNonRoot refuses root and nobody else", () => {
  assert.match(
    nonRootViolation(pod({ runAsNonRoot: true }), container(), 0) ?? "",
    /runAsNonRoot and image will run as root/,
  );
  assert.equal(nonRootViolation(pod({ runAsNonRoot: true }), container(), 1), undefined);
});
