/** Every built-in image. One entry a name; the same program may have several. */
import type { Image } from "./registry.ts";

const repository = "/opt/underlay";
const node = `${repository}/node_modules/node-linux-${process.arch === "arm64" ? "arm64" : "x64"}/bin/node`;
const nodeEnv = {
  NODE_EXTRA_CA_CERTS: "/etc/ssl/certs/underlay-ca.crt",
  NODE_OPTIONS: "--max-semi-space-size=1 --disable-warning=ExperimentalWarning",
};

const empty = { cmd: [], env: {}, workingDir: "/", usrLayers: [], directories: [] } as const;

/** A program of this repository, bundled by `tools/build-programs.ts`, on the pinned Node. */
function program(name: string, bundle: string, more: Partial<Image> = {}): Image {
  return { ...empty, repository: name, entrypoint: [node, `${repository}/.build/programs/${bundle}.mjs`], ...more, env: { ...nodeEnv, ...more.env } };
}

function script(name: string, path: string, more: Partial<Image> = {}): Image {
  return { ...empty, repository: name, entrypoint: ["/bin/sh", `${repository}/packages/images/src/${path}`], ...more };
}

/** An image that is only a set of tools: those of the machine's `/usr`. */
function tools(name: string, cmd: readonly string[]): Image {
  return { ...empty, repository: name, entrypoint: [], cmd };
}

/** EKS's system images live in an account of AWS's, one registry a region. */
const systemRegistry = (region: string): string => `602401143452.dkr.ecr.${region}.amazonaws.com`;
const regions = ["us-east-1", "us-east-2", "us-west-1", "us-west-2", "ca-central-1", "eu-central-1", "eu-north-1", "eu-west-1", "eu-west-2", "eu-west-3", "ap-northeast-1", "ap-northeast-2", "ap-south-1", "ap-southeast-1", "ap-southeast-2", "sa-east-1"];

const systemImages = regions.flatMap((region) => {
  const registry = systemRegistry(region);
  return [
    program(`${registry}/amazon-k8s-cni-init`, "aws-node-init"),
    program(`${registry}/amazon-k8s-cni`, "aws-node"),
    program(`${registry}/eks/kube-proxy`, "kube-proxy"),
    program(`${registry}/eks/coredns`, "coredns"),
  ];
});

const store = "public.ecr.aws/aws-containers/retail-store-sample";
const appUser = { user: { uid: 1000, gid: 1000 } };

export const catalogue: readonly Image[] = [
  ...systemImages,
  { ...empty, repository: "registry.k8s.io/pause", entrypoint: ["/usr/bin/sleep", "infinity"] },
  program(`${store}-ui`, "store-ui", appUser),
  program(`${store}-catalog`, "store-catalog", appUser),
  program(`${store}-cart`, "store-cart", appUser),
  program(`${store}-checkout`, "store-checkout", appUser),
  program(`${store}-orders`, "store-orders", appUser),
  program("docker.io/amazon/dynamodb-local", "dynamodb"),
  script("public.ecr.aws/docker/library/mysql", "databases/mysql.sh", { usrLayers: [`${repository}/.build/images/mysql/usr`], directories: ["/var/lib/mysql"] }),
  script("public.ecr.aws/docker/library/postgres", "databases/postgres.sh", { usrLayers: [`${repository}/.build/images/postgres/usr`] }),
  script("public.ecr.aws/docker/library/redis", "databases/redis.sh"),
  tools("docker.io/library/busybox", ["/bin/sh"]),
  tools("docker.io/library/ubuntu", ["/bin/bash"]),
  tools("docker.io/nicolaka/netshoot", ["/bin/bash"]),
  tools("underlay.test/tools", ["/bin/bash"]),
  program("underlay.test/flow", "flow"),
];
