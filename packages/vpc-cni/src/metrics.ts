/** ipamd's metrics under upstream's names (`awscni_…`): users' dashboards read them. One registry per ipamd. */
import { Counter, Gauge, Histogram, Registry, Summary } from "prom-client";

export type Metrics = ReturnType<typeof createMetrics>;

export function createMetrics() {
  const registry = new Registry();
  const registers = [registry];
  const gauge = <L extends string>(name: string, help: string, labelNames: readonly L[] = []) =>
    new Gauge<L>({ name: `awscni_${name}`, help, labelNames: [...labelNames], registers });
  const counter = <L extends string>(name: string, help: string, labelNames: readonly L[] = []) =>
    new Counter<L>({ name: `awscni_${name}`, help, labelNames: [...labelNames], registers });
  const buildInfo = gauge("build_info", "A constant 1 with the build's labels", ["version", "goversion"]);
  buildInfo.set({ version: "", goversion: "" }, 1);
  return {
    registry,
    actionInProgress: gauge("ipamd_action_inprogress", "The number of ipamd actions in progress", ["fn"]),
    eniMax: gauge("eni_max", "The maximum number of ENIs that can be attached to the instance"),
    ipMax: gauge("ip_max", "The maximum number of IP addresses that can be allocated to the instance"),
    eniAllocated: gauge("eni_allocated", "The number of ENIs allocated"),
    totalAddresses: gauge("total_ip_addresses", "The total number of IP addresses"),
    assignedAddresses: gauge("assigned_ip_addresses", "The number of IP addresses assigned to pods"),
    totalPrefixes: gauge("total_ipv4_prefixes", "The total number of IPv4 prefixes"),
    assignedPerCidr: gauge("assigned_ip_per_cidr", "The total number of IP addresses assigned per cidr", ["cidr"]),
    assignedPerEni: gauge("assigned_ip_per_eni", "The number of IP addresses assigned to pods per ENI", ["eni"]),
    connmarkBackend: gauge("connmark_backend", "The backend that sets connection marks", ["backend"]),
    ipamdErrors: counter("ipamd_error_count", "The number of errors encountered in ipamd", ["fn"]),
    reconciles: counter("reconcile_count", "The number of times ipamd reconciles on ENIs and IP addresses", ["fn"]),
    addRequests: counter("add_ip_req_count", "The number of add IP address requests"),
    delRequests: counter("del_ip_req_count", "The number of delete IP address requests", ["reason"]),
    awsApiErrors: counter("aws_api_error_count", "The number of times AWS API returns an error", ["api", "error"]),
    awsUtilsErrors: counter("aws_utils_error_count", "The number of errors not handled in awsutils", ["fn", "error"]),
    ec2Requests: counter("ec2api_req_count", "The number of requests made to EC2 APIs by CNI", ["fn"]),
    ec2Errors: counter("ec2api_error_count", "The number of failed EC2 APIs requests", ["fn"]),
    forceRemovedEnis: counter("force_removed_enis", "The number of ENIs force removed while they had assigned pods"),
    forceRemovedAddresses: counter("force_removed_ips", "The number of IPs force removed while they had assigned pods"),
    noAvailableAddresses: counter(
      "no_available_ip_addresses",
      "The number of pod IP assignments that fail due to no available IP addresses",
    ),
    connmarkReconciles: counter("connmark_reconcile_total", "The number of connmark reconciles", ["result"]),
    awsApiLatency: new Summary({
      name: "awscni_aws_api_latency_ms",
      help: "AWS API call latency in ms",
      labelNames: ["api", "error", "status"],
      percentiles: [0.5, 0.9, 0.99],
      registers,
    }),
    startupDuration: new Histogram({
      name: "awscni_ipamd_startup_duration_seconds",
      help: "Time ipamd took to start",
      labelNames: ["success", "with_api_server", "failure_reason"],
      buckets: [0.5, 1, 2, 5, 10, 20, 30, 60, 120],
      registers,
    }),
    nodeInitDuration: new Histogram({
      name: "awscni_ipamd_node_initialization_duration_seconds",
      help: "Time ipamd took to initialise the node",
      labelNames: ["success"],
      buckets: [0.5, 1, 2, 5, 10, 20, 30, 60, 120],
      registers,
    }),
  };
}
