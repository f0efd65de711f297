/**
 * Every environment variable of aws-node, once: its name (upstream's), default, what a bad value does, and its effect.
 * `settings.ts` parses by this table and `docs/settings.md` is written from it, so neither can say what the other does not.
 */

type Kind =
  | { readonly kind: "boolean"; readonly fallback: boolean }
  | { readonly kind: "text"; readonly fallback: string }
  /** `refuse`: a bad value ends the program; otherwise the default replaces it. */
  | {
      readonly kind: "integer";
      readonly fallback: number;
      readonly least: number;
      readonly most?: number;
      readonly refuse?: true;
    }
  | { readonly kind: "choice"; readonly fallback: string; readonly choices: readonly string[] }
  /** Own rules, described by `values`. */
  | { readonly kind: "special"; readonly fallback: string; readonly values: string; readonly refuse?: true }
  /** Accepted and without effect. */
  | { readonly kind: "ignored"; readonly why: string };

export type Variable = Kind & {
  readonly group: Group;
  readonly effect: string;
  /** The value Helm chart and EKS add-on set, where it is not the code's default. */
  readonly chart?: string;
  /** The mode it asks for is not built: asking for it ends the program by this name. */
  readonly unbuilt?: string;
};

export const groups = {
  family: "IP family and addressing mode",
  pool: "Address pool",
  snat: "SNAT, marks and routes",
  links: "Links",
  pods: "Branch ENIs, policy and pods",
  ec2: "EC2",
  watch: "Logs, metrics, introspection",
  places: "Paths and identity",
  underlay: "Underlay's own",
} as const;

type Group = keyof typeof groups;

const flag = (group: Group, fallback: boolean, effect: string, more: { unbuilt?: string; chart?: string } = {}) =>
  ({ group, kind: "boolean", fallback, effect, ...more }) as const;
const text = (group: Group, fallback: string, effect: string, more: { chart?: string } = {}) =>
  ({ group, kind: "text", fallback, effect, ...more }) as const;
const integer = (group: Group, fallback: number, least: number, effect: string, more: { chart?: string } = {}) =>
  ({ group, kind: "integer", fallback, least, effect, ...more }) as const;
const ignored = (group: Group, why: string) => ({ group, kind: "ignored", why, effect: "none" }) as const;

export const variables = {
  ENABLE_IPv4: flag("family", false, "Pods get IPv4 addresses. Exactly one of the two families must be on.", {
    chart: "true",
  }),
  ENABLE_IPv6: flag("family", false, "Pods get IPv6 addresses.", { unbuilt: "IPv6 pods" }),
  ENABLE_PREFIX_DELEGATION: flag(
    "family",
    false,
    "ENIs get /28 prefixes and not single addresses. Quietly off on an instance type that is neither Nitro nor bare metal. Refused while WARM_IP_TARGET, WARM_PREFIX_TARGET and MINIMUM_IP_TARGET are all 0.",
  ),
  AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG: flag(
    "family",
    false,
    "Pods get addresses of the subnet an ENIConfig names, none of the primary ENI.",
  ),
  ENI_CONFIG_ANNOTATION_DEF: text(
    "family",
    "k8s.amazonaws.com/eniConfig",
    "The node annotation that names the ENIConfig.",
  ),
  ENI_CONFIG_LABEL_DEF: text(
    "family",
    "k8s.amazonaws.com/eniConfig",
    "The node label that names the ENIConfig, often topology.kubernetes.io/zone. Precedence: label vpc.amazonaws.com/externalEniConfig, the annotation, this label, the name `default`.",
  ),
  ENABLE_SUBNET_DISCOVERY: flag(
    "family",
    true,
    "New ENIs go to subnets by tag kubernetes.io/role/cni and free addresses. An ENIConfig's subnet takes precedence.",
  ),
  ENABLE_MULTI_NIC: flag("family", false, "Several network cards.", { unbuilt: "pods with several network cards" }),

  WARM_ENI_TARGET: integer("pool", 1, 0, "Spare ENIs' worth of addresses. Only where no IP target is set."),
  WARM_IP_TARGET: integer(
    "pool",
    0,
    0,
    "Spare addresses; 0 is unset. Either IP target overrides WARM_ENI_TARGET and WARM_PREFIX_TARGET.",
  ),
  MINIMUM_IP_TARGET: integer("pool", 0, 0, "Addresses in all, at least; 0 is unset."),
  WARM_PREFIX_TARGET: integer("pool", 0, 0, "Spare, wholly free prefixes. Prefix delegation only.", { chart: "1" }),
  MAX_ENI: {
    group: "pool",
    kind: "integer",
    fallback: -1,
    least: 1,
    effect: "At most so many ENIs, if below the instance type's limit; the primary, trunk and unmanaged ones count.",
  },
  IP_COOLDOWN_PERIOD: {
    group: "pool",
    kind: "integer",
    fallback: 30,
    least: 0,
    refuse: true,
    effect: "Seconds a released address rests before its next pod.",
  },

  AWS_VPC_K8S_CNI_EXTERNALSNAT: flag(
    "snat",
    false,
    "No SNAT and no connection marks on the node: something outside translates.",
  ),
  AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS: {
    group: "snat",
    kind: "special",
    fallback: "",
    values: "IPv4 CIDRs, comma between; others are dropped",
    effect: "Further destinations that see the pod's own address. Without effect under external SNAT.",
  },
  AWS_EXTERNAL_SERVICE_CIDRS: {
    group: "snat",
    kind: "special",
    fallback: "",
    values: "IPv4 CIDRs, comma between; others are dropped",
    effect: "Destinations always routed by the main table (rule 1535).",
  },
  AWS_VPC_K8S_CNI_RANDOMIZESNAT: {
    group: "snat",
    kind: "choice",
    fallback: "prng",
    choices: ["prng", "hashrandom", "none"],
    effect: "How source ports are picked: --random-fully, --random, or in order.",
  },
  AWS_VPC_CNI_NODE_PORT_SUPPORT: flag(
    "snat",
    true,
    "Connections to node ports are marked, so that replies leave through the primary ENI.",
  ),
  AWS_VPC_K8S_CNI_CONNMARK: {
    group: "snat",
    kind: "special",
    fallback: "0x80",
    values: "an integer literal of Go, 1 to 2^32-1; otherwise the default",
    effect: "The mark, and its mask.",
  },
  AWS_VPC_K8S_CNI_CONFIGURE_RPFILTER: ignored("snat", "the init container always sets rp_filter=2"),
  ENABLE_NFTABLES: ignored("snat", "nftables is always used"),

  AWS_VPC_ENI_MTU: {
    group: "links",
    kind: "integer",
    fallback: 9001,
    least: 576,
    most: 9001,
    refuse: true,
    effect: "MTU of every ENI, the primary included.",
  },
  POD_MTU: {
    group: "links",
    kind: "special",
    fallback: "AWS_VPC_ENI_MTU",
    values: "576 to 9001",
    refuse: true,
    effect: "MTU of pods' links, on both ends.",
  },
  AWS_VPC_K8S_CNI_VETHPREFIX: {
    group: "links",
    kind: "special",
    fallback: "eni",
    values: "at most 4 characters, not eth, lo or vlan",
    refuse: true,
    effect: "How the host ends of pods' links begin, in names and firewall rules.",
  },
  DISABLE_TCP_EARLY_DEMUX: flag("links", false, "tcp_early_demux=0. Read by the init container."),
  DISABLE_POD_V6: flag("links", false, "Chains `tuning` with disable_ipv6=1 in pods."),
  ENABLE_BANDWIDTH_PLUGIN: flag("links", false, "Chains `bandwidth`."),
  ENABLE_V6_EGRESS: flag("links", false, "IPv6 egress in an IPv4 cluster.", { unbuilt: "IPv6 egress" }),
  ENABLE_V4_EGRESS: ignored("links", "it counts in IPv6 clusters only, which are not built"),

  ENABLE_POD_ENI: flag("pods", false, "Security groups for pods.", { unbuilt: "security groups for pods" }),
  POD_SECURITY_GROUP_ENFORCING_MODE: {
    group: "pods",
    kind: "choice",
    fallback: "strict",
    choices: ["strict", "standard"],
    effect: "Written into the conflist; counts with ENABLE_POD_ENI.",
  },
  NETWORK_POLICY_ENFORCING_MODE: {
    group: "pods",
    kind: "special",
    fallback: "",
    values: "`none` in any case; standard and strict are not built",
    refuse: true,
    effect: "Whether ADD waits for the network policy agent.",
  },
  ANNOTATE_POD_IP: flag("pods", false, "ADD writes the pod annotation vpc.amazonaws.com/pod-ips, DEL empties it."),

  ADDITIONAL_ENI_TAGS: {
    group: "ec2",
    kind: "special",
    fallback: "{}",
    values: "a JSON map of strings; otherwise {}",
    effect: "Tags of new ENIs. Keys with k8s.amazonaws.com are dropped.",
  },
  MANAGE_UNTAGGED_ENI: flag("ec2", true, "false: ENIs without the instance-id tag are left alone."),
  AWS_MANAGE_ENIS_NON_SCHEDULABLE: flag("ec2", false, "The pool also grows and shrinks on a cordoned node."),
  DISABLE_NETWORK_RESOURCE_PROVISIONING: flag("ec2", false, "No growing, no shrinking, no tags, no security groups."),
  DISABLE_LEAKED_ENI_CLEANUP: flag("ec2", false, "No hourly search for unattached ENIs."),
  ENABLE_IMDS_ONLY_MODE: flag(
    "ec2",
    false,
    "Implies the previous two; ENIs are taken as instance metadata lists them, without tags, trunk or EFA.",
  ),
  AWS_EC2_ENDPOINT: ignored("ec2", "as upstream since its SDK v2; AWS_ENDPOINT_URL_EC2 and AWS_ENDPOINT_URL count"),
  HTTP_TIMEOUT: integer("ec2", 10, 10, "Seconds an EC2 call may take."),
  CLUSTER_NAME: text(
    "ec2",
    "",
    "The ENIs' cluster tag, the filter of the cleanup, and the check of subnets' cluster tags.",
  ),

  AWS_VPC_K8S_CNI_LOGLEVEL: text("watch", "Debug", "ipamd's level."),
  AWS_VPC_K8S_CNI_LOG_FILE: text(
    "watch",
    "/host/var/log/aws-routed-eni/ipamd.log",
    "ipamd's log: a file, stdout or stderr.",
  ),
  AWS_VPC_K8S_PLUGIN_LOG_FILE: {
    group: "watch",
    kind: "special",
    fallback: "/var/log/aws-routed-eni/plugin.log",
    values: "a file or stderr; stdout is the plugin's answer",
    refuse: true,
    effect: "Written into the conflist.",
  },
  AWS_VPC_K8S_PLUGIN_LOG_LEVEL: text("watch", "Debug", "Written into the conflist."),
  AWS_VPC_K8S_EGRESS_V4_PLUGIN_LOG_FILE: ignored("watch", "the egress plugin is not built"),
  AWS_VPC_K8S_EGRESS_V6_PLUGIN_LOG_FILE: ignored("watch", "the egress plugin is not built"),
  DISABLE_INTROSPECTION: flag("watch", false, "No introspection port."),
  DISABLE_METRICS: flag("watch", false, "No metrics port (61678)."),
  INTROSPECTION_BIND_ADDRESS: text("watch", "127.0.0.1:61679", "address:port, or unix:<path>."),

  AWS_VPC_K8S_CNI_BACKING_STORE: text("places", "/var/run/aws-node/ipam.json", "The checkpoint."),
  HOST_CNI_BIN_PATH: text("places", "/host/opt/cni/bin", "Where the plugins are put."),
  HOST_CNI_CONFDIR_PATH: text("places", "/host/etc/cni/net.d", "Where the conflist is put."),
  MY_NODE_NAME: text("places", "", "The Node object to watch (downward API)."),
  MY_POD_NAME: text("places", "", "The pod that gets ipamd's events (downward API)."),
  MY_POD_NAMESPACE: text("places", "kube-system", "Its namespace."),
  CLUSTER_ENDPOINT: text("places", "", "Replaces the API server's address of the service account."),
  VPC_CNI_VERSION: text("places", "", "Part of the user agent.", { chart: "v1.23.1" }),

  UNDERLAY_TIME_SCALE: {
    group: "underlay",
    kind: "special",
    fallback: "1",
    values: "a number above 0",
    effect: "Seconds of AWS per second here: every wait of ipamd is divided by it.",
  },
  UNDERLAY_PLUMBER_SOCKET: text("underlay", "/var/run/aws-node/plumber.sock", "Where ipamd listens for the plugin."),
} as const satisfies Record<string, Variable>;

export type VariableName = keyof typeof variables;
