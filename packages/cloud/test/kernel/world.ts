/** A small cloud as plain data for the kernel ring: builders of FabricState, traffic, and cleaning up after a test. */
import { spawn, spawnSync, type ChildProcessWithoutNullStreams } from "node:child_process";
import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import { nthAddress } from "@underlay/addr/cidr";
import { connectTcp, listenTcp } from "@underlay/kernel/sockets";
import { netnsPath } from "@underlay/kernel/netns";
import { openFabric, removeNamespaces, type LinuxFabric } from "../../src/fabric/fabric.ts";
import { instanceNetns } from "../../src/fabric/places.ts";
import type { FabricEni, FabricInstance, FabricRule, FabricState } from "../../src/fabric/seam.ts";

export type Mutable<T> = { -readonly [K in keyof T]: T[K] extends readonly (infer E)[] ? E[] : T[K] };
export type State = Mutable<FabricState>;

let counter = 0;

/** An id no other test uses; namespaces are `ul-t<random>-…`. */
export const newClusterId = (): string => `t${Math.random().toString(16).slice(2, 8)}${(counter++).toString(16)}`;

export function emptyState(clusterId: string): State {
  return {
    clusterId,
    region: "us-west-2",
    accountId: "111122223333",
    vpcs: [],
    subnets: [],
    enis: [],
    instances: [],
    securityGroups: [],
    routeTables: [],
    internetGateways: [],
    natGateways: [],
    prefixLists: [],
    clusters: [],
  };
}

export const allow = (
  direction: "ingress" | "egress",
  peer: FabricRule["peer"] = { cidrIpv4: "0.0.0.0/0" },
  protocol = "-1",
  fromPort = -1,
  toPort = fromPort,
): FabricRule => ({ ruleId: `sgr-${counter++}`, direction, protocol, fromPort, toPort, peer });

/** A VPC with a main route table and one group that allows everything out and itself in. */
export function addVpc(state: State, vpcId: string, cidr: string): void {
  state.vpcs.push({ vpcId, cidrs: [cidr], enableDnsSupport: true, enableDnsHostnames: true });
  state.routeTables.push({ routeTableId: `rtb-${vpcId}`, vpcId, routes: [{ cidr, target: { kind: "local" } }] });
  state.securityGroups.push({
    groupId: `sg-${vpcId}`,
    groupName: "default",
    vpcId,
    rules: [allow("egress"), allow("ingress", { groupId: `sg-${vpcId}` })],
  });
}

export function addSubnet(state: State, vpcId: string, cidr: string, routeTableId = `rtb-${vpcId}`): string {
  const number = state.subnets.filter((subnet) => subnet.vpcId === vpcId).length + 1;
  const subnetId = `subnet-${vpcId}-${number}`;
  state.subnets.push({ subnetId, number, vpcId, cidr, availabilityZone: "us-west-2a", routeTableId });
  return subnetId;
}

export type EniShape = {
  readonly host: number;
  readonly groups?: readonly string[];
  readonly secondary?: readonly number[];
  readonly prefixes?: readonly string[];
  readonly publicAddress?: string;
  readonly sourceDestCheck?: boolean;
};

export function eniOf(
  state: State,
  subnetId: string,
  attachment: NonNullable<FabricEni["attachment"]>,
  shape: EniShape,
): FabricEni {
  const subnet = state.subnets.find((candidate) => candidate.subnetId === subnetId)!;
  const number = Math.max(0, ...state.enis.map((eni) => eni.number)) + 1;
  const addresses = [shape.host, ...(shape.secondary ?? [])].map((host, index) => ({
    address: nthAddress(subnet.cidr, host),
    ...(index === 0 && shape.publicAddress !== undefined ? { publicAddress: shape.publicAddress } : {}),
  }));
  return {
    eniId: `eni-${number}`,
    number,
    vpcId: subnet.vpcId,
    subnetId,
    mac: `02:0a:00:00:${(number >> 8).toString(16).padStart(2, "0")}:${(number & 255).toString(16).padStart(2, "0")}`,
    securityGroupIds: shape.groups ?? [`sg-${subnet.vpcId}`],
    sourceDestCheck: shape.sourceDestCheck ?? true,
    interfaceType: attachment.kind === "nat-gateway" ? "nat_gateway" : "interface",
    addresses,
    prefixes: shape.prefixes ?? [],
    attachment,
  };
}

/** An instance with its primary ENI; returns its namespace. */
export function addInstance(
  state: State,
  instanceId: string,
  subnetId: string,
  shape: EniShape & Partial<Pick<FabricInstance, "metadataOptions" | "userData" | "role">>,
): string {
  const attachment = {
    kind: "instance",
    attachmentId: `eni-attach-${instanceId}`,
    instanceId,
    deviceIndex: 0,
    networkCardIndex: 0,
  } as const;
  const eni = eniOf(state, subnetId, attachment, shape);
  state.enis.push(eni);
  const address = eni.addresses[0]!.address;
  state.instances.push({
    instanceId,
    state: "running",
    vpcId: eni.vpcId,
    subnetId,
    availabilityZone: "us-west-2a",
    instanceType: "m5.large",
    imageId: "ami-1",
    launchTime: "2026-01-01T00:00:00.000Z",
    privateDnsName: `ip-${address.replaceAll(".", "-")}.us-west-2.compute.internal`,
    privateAddress: address,
    primaryEniId: eni.eniId,
    reservationId: "r-1",
    amiLaunchIndex: 0,
    tags: {},
    metadataOptions: {
      httpTokens: "required",
      httpPutResponseHopLimit: 2,
      httpEndpoint: "enabled",
      instanceMetadataTags: "disabled",
    },
    ...(shape.metadataOptions === undefined ? {} : { metadataOptions: shape.metadataOptions }),
    ...(shape.userData === undefined ? {} : { userData: shape.userData }),
    ...(shape.role === undefined ? {} : { role: shape.role }),
  });
  return instanceNetns(state.clusterId, instanceId);
}

export function addSecondEni(
  state: State,
  instanceId: string,
  subnetId: string,
  deviceIndex: number,
  shape: EniShape,
): FabricEni {
  const eni = eniOf(
    state,
    subnetId,
    {
      kind: "instance",
      attachmentId: `eni-attach-${instanceId}-${deviceIndex}`,
      instanceId,
      deviceIndex,
      networkCardIndex: 0,
    },
    shape,
  );
  state.enis.push(eni);
  return eni;
}

/** A public and a private subnet, an IGW, and a NAT gateway with an elastic address. */
export function addInternet(
  state: State,
  vpcId: string,
  publicCidr: string,
  privateCidr: string,
  natAddress: string,
): { publicSubnet: string; privateSubnet: string } {
  const local = state.routeTables.find((table) => table.vpcId === vpcId)!.routes;
  state.internetGateways.push({ internetGatewayId: `igw-${vpcId}`, vpcId });
  state.routeTables.push({
    routeTableId: `rtb-public-${vpcId}`,
    vpcId,
    routes: [...local, { cidr: "0.0.0.0/0", target: { kind: "internet-gateway", internetGatewayId: `igw-${vpcId}` } }],
  });
  state.routeTables.push({
    routeTableId: `rtb-private-${vpcId}`,
    vpcId,
    routes: [...local, { cidr: "0.0.0.0/0", target: { kind: "nat-gateway", natGatewayId: `nat-${vpcId}` } }],
  });
  const publicSubnet = addSubnet(state, vpcId, publicCidr, `rtb-public-${vpcId}`);
  const privateSubnet = addSubnet(state, vpcId, privateCidr, `rtb-private-${vpcId}`);
  const eni = eniOf(
    state,
    publicSubnet,
    { kind: "nat-gateway", natGatewayId: `nat-${vpcId}` },
    { host: 9, groups: [], publicAddress: natAddress, sourceDestCheck: false },
  );
  state.enis.push(eni);
  state.natGateways.push({
    natGatewayId: `nat-${vpcId}`,
    vpcId,
    subnetId: publicSubnet,
    eniId: eni.eniId,
    privateAddress: eni.addresses[0]!.address,
    publicAddress: natAddress,
  });
  return { publicSubnet, privateSubnet };
}

export const copy = (state: State): State => structuredClone(state);

/** A fabric for one test; everything of it is gone afterwards, also when the test fails. */
export async function withFabric(work: (fabric: LinuxFabric, clusterId: string) => Promise<void>): Promise<void> {
  const clusterId = newClusterId();
  const fabric = await openFabric({ clusterId, stateDir: "", auditMs: 0 });
  try {
    await work(fabric, clusterId);
  } finally {
    await fabric.close();
    removeNamespaces(clusterId);
  }
}

/** Runs a command in a namespace; its output. */
export function run(netns: string, ...argv: string[]): string {
  const { stdout, stderr, status, error } = spawnSync("nsenter", [`--net=${netnsPath(netns)}`, ...argv], {
    encoding: "utf8",
    timeout: 20_000,
  });
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(`${argv.join(" ")} in ${netns}: exit ${status}: ${stderr}${stdout}`);
  return stdout;
}

export function spawnIn(netns: string, ...argv: string[]): ChildProcessWithoutNullStreams {
  return spawn("nsenter", [`--net=${netnsPath(netns)}`, ...argv]);
}

/** An echoing TCP server; `clients` are the addresses it saw. */
export async function echoServer(
  netns: string,
  address: string,
  port: number,
): Promise<{ clients: string[]; server: Server; close(): Promise<void> }> {
  const clients: string[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    clients.push(`${socket.remoteAddress}`);
    sockets.add(socket);
    socket.on("error", () => {});
    socket.pipe(socket);
  });
  server.listen({ fd: listenTcp({ netns, address, port, freebind: true }) });
  await once(server, "listening");
  return {
    clients,
    server,
    close: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}

/** A connected socket, or undefined when nothing answered in time. */
export async function connect(
  netns: string,
  address: string,
  port: number,
  o: { sourceAddress?: string; timeoutMs?: number } = {},
): Promise<Socket | undefined> {
  const socket = connectTcp({
    netns,
    address,
    port,
    ...(o.sourceAddress === undefined ? {} : { sourceAddress: o.sourceAddress }),
  });
  return new Promise((resolve) => {
    const give = (result: Socket | undefined): void => {
      clearTimeout(timer);
      if (result === undefined) socket.destroy();
      resolve(result);
    };
    const timer = setTimeout(() => give(undefined), o.timeoutMs ?? 600);
    socket.once("connect", () => give(socket));
    socket.on("error", () => give(undefined));
  });
}

/** Sends text and waits for its echo; undefined when none came in time. */
export async function exchange(socket: Socket, text: string, timeoutMs = 1500): Promise<string | undefined> {
  return new Promise((resolve) => {
    let got = "";
    const timer = setTimeout(() => resolve(undefined), timeoutMs);
    const onData = (data: Buffer): void => {
      got += data.toString();
      if (got.length < text.length) return;
      clearTimeout(timer);
      socket.off("data", onData);
      resolve(got);
    };
    socket.on("data", onData);
    socket.write(text);
  });
}

export async function reaches(
  netns: string,
  address: string,
  port: number,
  o: { sourceAddress?: string; timeoutMs?: number } = {},
): Promise<boolean> {
  const socket = await connect(netns, address, port, o);
  socket?.destroy();
  return socket !== undefined;
}
