/** Every built-in image. One entry a name; the same program may have several. */
import type { Image } from "./registry.ts";

const node = `/opt/underlay/node_modules/node-linux-${process.arch === "arm64" ? "arm64" : "x64"}/bin/node`;
const nodeEnv = {
  NODE_EXTRA_CA_CERTS: "/etc/ssl/certs/underlay-ca.crt",
  NODE_OPTIONS: "--max-semi-space-size=1 --disable-warning=ExperimentalWarning",
};
const ecr = "602401143452.dkr.ecr.us-west-2.amazonaws.com";

function program(repository: string, path: string, more: Partial<Image> = {}): Image {
  return {
    repository,
    entrypoint: [node, `/opt/underlay/packages/${path}`],
    cmd: [],
    env: { ...nodeEnv, ...more.env },
    workingDir: "/",
    usrLayers: [],
    directories: [],
    ...(more.user ? { user: more.user } : {}),
  };
}

export const catalogue: readonly Image[] = [
  program(`${ecr}/amazon-k8s-cni-init`, "vpc-cni/src/init.ts"),
  program(`${ecr}/amazon-k8s-cni`, "vpc-cni/src/main.ts"),
  program(`${ecr}/eks/kube-proxy`, "service-proxy/src/main.ts"),
  program(`${ecr}/eks/coredns`, "cluster-dns/src/main.ts"),
  {
    repository: "registry.k8s.io/pause",
    entrypoint: ["/usr/bin/sleep", "infinity"],
    cmd: [],
    env: {},
    workingDir: "/",
    usrLayers: [],
    directories: [],
  },
];
