/** Typed calls to a container runtime over CRI. The messages: `cri-proto.ts`. */
import protobuf from "protobufjs";
import { criMethods, criProto } from "./cri-proto.ts";
import { GrpcUnix, type CallOptions } from "./grpc-unix.ts";

type Labels = Record<string, string>;
export type NamespaceMode = "POD" | "CONTAINER" | "NODE";

export type PodSandboxConfig = {
  readonly metadata: {
    readonly name: string;
    readonly uid: string;
    readonly namespace: string;
    readonly attempt: number;
  };
  readonly hostname: string;
  readonly logDirectory: string;
  readonly portMappings: readonly { protocol: string; containerPort: number; hostPort: number; hostIp?: string }[];
  readonly labels: Labels;
  readonly annotations: Labels;
  readonly linux: {
    readonly cgroupParent: string;
    readonly securityContext: {
      readonly namespaceOptions: { network: NamespaceMode; pid: NamespaceMode; ipc: NamespaceMode };
      readonly privileged: boolean;
    };
    readonly sysctls: Labels;
  };
};

export type ContainerConfig = {
  readonly metadata: { readonly name: string; readonly attempt: number };
  readonly image: { readonly image: string };
  readonly command: readonly string[];
  readonly workingDir: string;
  readonly envs: readonly { key: string; value: string }[];
  readonly mounts: readonly { containerPath: string; hostPath: string; readonly?: boolean; propagation?: string }[];
  readonly labels: Labels;
  readonly logPath: string;
  readonly stdin?: boolean;
  readonly stdinOnce?: boolean;
  readonly tty?: boolean;
  readonly linux: {
    readonly resources: {
      cpuPeriod?: number;
      cpuQuota?: number;
      cpuShares?: number;
      memoryLimitInBytes?: number;
      oomScoreAdj?: number;
    };
    readonly securityContext: {
      readonly capabilities?: { addCapabilities: readonly string[]; dropCapabilities: readonly string[] };
      readonly privileged?: boolean;
      readonly namespaceOptions: { network: NamespaceMode; pid: NamespaceMode; ipc: NamespaceMode };
      readonly runAsUser: { value: number };
      readonly runAsGroup: { value: number };
      readonly readonlyRootfs?: boolean;
      readonly supplementalGroups: readonly number[];
      readonly noNewPrivs?: boolean;
    };
  };
};

export type CriSandbox = {
  readonly id: string;
  readonly metadata: PodSandboxConfig["metadata"];
  readonly state?: "SANDBOX_READY" | "SANDBOX_NOTREADY";
  readonly createdAt?: number;
};

export type CriContainer = {
  readonly id: string;
  readonly podSandboxId: string;
  readonly metadata: { readonly name: string; readonly attempt?: number };
  readonly state?: "CONTAINER_CREATED" | "CONTAINER_RUNNING" | "CONTAINER_EXITED" | "CONTAINER_UNKNOWN";
  readonly labels: Labels;
};

export type CriContainerStatus = {
  readonly id: string;
  readonly metadata: { readonly name: string; readonly attempt?: number };
  readonly state?: CriContainer["state"];
  readonly startedAt?: number;
  readonly finishedAt?: number;
  readonly exitCode?: number;
  readonly reason?: string;
};

export type CriImage = { readonly id: string; readonly repoTags?: readonly string[] };

type Answers = {
  Version: { runtimeName: string; runtimeVersion: string };
  RunPodSandbox: { podSandboxId: string };
  PodSandboxStatus: {
    status: { id: string; state?: string; network?: { ip?: string; additionalIps?: { ip: string }[] } };
    info: Labels;
  };
  ListPodSandbox: { items?: CriSandbox[] };
  CreateContainer: { containerId: string };
  ListContainers: { containers?: CriContainer[] };
  ContainerStatus: { status: CriContainerStatus; info: Labels };
  ExecSync: { stdout?: Buffer; stderr?: Buffer; exitCode?: number };
  Exec: { url: string };
  Attach: { url: string };
  ImageStatus: { image?: CriImage; info: Labels };
  ListImages: { images?: CriImage[] };
};
type Method = keyof typeof criMethods;
type Answer<M extends Method> = M extends keyof Answers ? Answers[M] : Record<string, never>;

export class CriClient {
  readonly #grpc: GrpcUnix;
  readonly #types = protobuf.parse(criProto).root;

  constructor(socket: string) {
    this.#grpc = new GrpcUnix(socket);
  }

  async call<M extends Method>(method: M, request: object, options?: CallOptions): Promise<Answer<M>> {
    const [service, requestName, answerName] = criMethods[method];
    const requestType = this.#types.lookupType(`runtime.v1.${requestName}`);
    const answerType = this.#types.lookupType(`runtime.v1.${answerName}`);
    const body = requestType.encode(requestType.fromObject(request)).finish();
    const answer = await this.#grpc.unary(`/runtime.v1.${service}/${method}`, body, options);
    return answerType.toObject(answerType.decode(answer), {
      longs: Number,
      enums: String,
      bytes: Buffer as never,
      objects: true,
    }) as Answer<M>;
  }

  /** Calls `each` whenever a task or container of the runtime changed (containerd's own event service; what changed is not read). */
  watchEvents(each: () => void, signal: AbortSignal): Promise<void> {
    return this.#grpc.stream("/containerd.services.events.v1.Events/Subscribe", new Uint8Array(), each, signal);
  }

  close(): void {
    this.#grpc.close();
  }
}
