/** Command line of the controller: upstream's flags, and the control plane's settings file as EKS' own programs take it. */
import { hostname } from "node:os";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { defaultChunkSize } from "../api/policy-endpoint.ts";

export type ControllerSettings = {
  /** Beside the settings file, or given; otherwise the usual places and the pod's service account. */
  readonly kubeconfig: string | undefined;
  /** Where metrics are served: a unix socket beside the settings file, so that nothing listens in the first namespace. */
  readonly metricsSocket: string | undefined;
  /** Acts only while the ConfigMap kube-system/amazon-vpc-cni says so. */
  readonly checkConfigMap: boolean;
  /** Entries a list of one PolicyEndpoint holds. */
  readonly chunkSize: number;
  readonly workers: number;
  /** Changes of pods, namespaces and Services within this time lead to one look at a policy. Upstream waits a second. */
  readonly batchMs: number;
  /** Name in the leader's lease. The same after a restart of the one process a settings file has, which so leads again at once. */
  readonly identity: string;
};

/** `[settings.json] [--kubeconfig FILE] [--enable-configmap-check=false] …`; throws on what it does not know. */
export function readSettings(argv: readonly string[]): ControllerSettings {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      kubeconfig: { type: "string" },
      "enable-configmap-check": { type: "string", default: "true" },
      "endpoint-chunk-size": { type: "string", default: String(defaultChunkSize) },
      "max-concurrent-reconciles": { type: "string", default: "3" },
      "pod-update-batch-period-ms": { type: "string", default: "20" },
    },
  });
  const place = positionals[0] === undefined ? undefined : dirname(positionals[0]);
  return {
    kubeconfig: values.kubeconfig ?? (place && join(place, "controller-manager.kubeconfig")),
    metricsSocket: place && join(place, "network-policy-controller.metrics.sock"),
    checkConfigMap: values["enable-configmap-check"] !== "false",
    chunkSize: number("endpoint-chunk-size", values["endpoint-chunk-size"], 1),
    workers: number("max-concurrent-reconciles", values["max-concurrent-reconciles"], 1),
    batchMs: number("pod-update-batch-period-ms", values["pod-update-batch-period-ms"], 0),
    identity: place ? `${hostname()}_${place}` : `${hostname()}_${process.pid}`,
  };
}

function number(flag: string, text: string, least: number): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < least) {
    throw new Error(`Cannot use --${flag}=${text}: it has to be a whole number of at least ${least}`);
  }
  return value;
}
