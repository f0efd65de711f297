/** Every built-in image. One entry a name; the same program may have several. */
import type { Image } from "./registry.ts";

const repository = "/opt/underlay";
const node = `${repository}/node_modules/node-linux-${process.arch === "arm64" ? "arm64" : "x64"}/bin/node`;
const nodeEnv = {
  NODE_EXTRA_CA_CERTS: "/etc/ssl/certs/underlay-ca.crt",
  NODE_OPTIONS: "--max-semi-space-size=1 --disable-warning=ExperimentalWarning",
};

const empty = { cmd: [], env: {}, workingDir: "/", usrLayers: [], directories: [] } as const;

/** Does nothing until SIGTERM, and ends at once then: a bare `sleep` would ignore the signal as first process of its namespace. */
const waitForSignal = "trap 'exit 0' TERM INT; while :; do sleep 2147483647 & wait; done";

/** A program of this repository, bundled by `tools/build-programs.ts`, on the pinned Node. */
function program(name: string, bundle: string, more: Partial<Image> = {}): Image {
  return {
    ...empty,
    repository: name,
    entrypoint: [node, `${repository}/.build/programs/${bundle}.mjs`],
    ...more,
    env: { ...nodeEnv, ...more.env },
  };
}

function script(name: string, path: string, more: Partial<Image> = {}): Image {
  return { ...empty, repository: name, entrypoint: ["/bin/sh", `${repository}/packages/images/src/${path}`], ...more };
}

/** An image that is only a set of tools: those of the machine's `/usr`. */
function tools(name: string, cmd: readonly string[]): Image {
  return { ...empty, repository: name, entrypoint: [], cmd };
}

/** EKS's system images live in an account of AWS's, one registry a region; the region of a reference makes no difference. */
export const systemRegistry = /^602401143452\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com\//;
export const canonicalSystemRegistry = "602401143452.dkr.ecr.us-west-2.amazonaws.com/";

const store = "public.ecr.aws/aws-containers/retail-store-sample";
const appUser = { user: { uid: 1000, gid: 1000 } };

export const catalogue: readonly Image[] = [
  program(`${canonicalSystemRegistry}amazon-k8s-cni-init`, "aws-node-init"),
  program(`${canonicalSystemRegistry}amazon-k8s-cni`, "aws-node"),
  program(`${canonicalSystemRegistry}amazon/aws-network-policy-agent`, "network-policy-agent"),
  program(`${canonicalSystemRegistry}eks/kube-proxy`, "kube-proxy"),
  program(`${canonicalSystemRegistry}eks/coredns`, "coredns"),
  { ...empty, repository: "registry.k8s.io/pause", entrypoint: ["/bin/sh", "-c", waitForSignal] },
  program(`${store}-ui`, "store-ui", appUser),
  program(`${store}-catalog`, "store-catalog", appUser),
  program(`${store}-cart`, "store-cart", appUser),
  program(`${store}-checkout`, "store-checkout", appUser),
  program(`${store}-orders`, "store-orders", appUser),
  program("docker.io/amazon/dynamodb-local", "dynamodb"),
  script("public.ecr.aws/docker/library/mysql", "databases/mysql.sh", {
    usrLayers: [`${repository}/.build/images/mysql/usr`],
    directories: ["/var/lib/mysql"],
  }),
  script("public.ecr.aws/docker/library/postgres", "databases/postgres.sh", {
    usrLayers: [`${repository}/.build/images/postgres/usr`],
  }),
  script("public.ecr.aws/docker/library/redis", "databases/redis.sh"),
  tools("docker.io/library/busybox", ["/bin/sh"]),
  tools("docker.io/library/ubuntu", ["/bin/bash"]),
  tools("docker.io/nicolaka/netshoot", ["/bin/bash"]),
  tools("underlay.test/tools", ["/bin/bash"]),
  program("underlay.test/flow", "flow"),
];
