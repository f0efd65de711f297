/**
 * The part of the Container Runtime Interface (runtime.v1) this kubelet speaks: field numbers as in Kubernetes' cri-api, fields it never
 * sets or reads left out. `events` is containerd's own stream of what happened.
 */
export const criProto = `
syntax = "proto3";
package runtime.v1;

message Empty {}
message VersionResponse { string runtime_name = 2; string runtime_version = 3; }

enum NamespaceMode { POD = 0; CONTAINER = 1; NODE = 2; TARGET = 3; }
message NamespaceOption { NamespaceMode network = 1; NamespaceMode pid = 2; NamespaceMode ipc = 3; }
message Int64Value { int64 value = 1; }
message PodSandboxMetadata { string name = 1; string uid = 2; string namespace = 3; uint32 attempt = 4; }
message DNSConfig { repeated string servers = 1; repeated string searches = 2; repeated string options = 3; }
enum Protocol { TCP = 0; UDP = 1; SCTP = 2; }
message PortMapping { Protocol protocol = 1; int32 container_port = 2; int32 host_port = 3; string host_ip = 4; }
message LinuxSandboxSecurityContext { NamespaceOption namespace_options = 1; bool privileged = 6; }
message LinuxPodSandboxConfig { string cgroup_parent = 1; LinuxSandboxSecurityContext security_context = 2; map<string, string> sysctls = 3; }
message PodSandboxConfig {
  PodSandboxMetadata metadata = 1; string hostname = 2; string log_directory = 3; DNSConfig dns_config = 4;
  repeated PortMapping port_mappings = 5; map<string, string> labels = 6; map<string, string> annotations = 7; LinuxPodSandboxConfig linux = 8;
}
message RunPodSandboxRequest { PodSandboxConfig config = 1; }
message RunPodSandboxResponse { string pod_sandbox_id = 1; }
message PodSandboxIdRequest { string pod_sandbox_id = 1; }
message PodSandboxStatusRequest { string pod_sandbox_id = 1; bool verbose = 2; }
message PodIP { string ip = 1; }
message PodSandboxNetworkStatus { string ip = 1; repeated PodIP additional_ips = 2; }
enum PodSandboxState { SANDBOX_READY = 0; SANDBOX_NOTREADY = 1; }
message PodSandboxStatus { string id = 1; PodSandboxMetadata metadata = 2; PodSandboxState state = 3; PodSandboxNetworkStatus network = 5; }
message PodSandboxStatusResponse { PodSandboxStatus status = 1; map<string, string> info = 2; }
message PodSandboxFilter { string id = 1; map<string, string> label_selector = 3; }
message ListPodSandboxRequest { PodSandboxFilter filter = 1; }
message PodSandbox { string id = 1; PodSandboxMetadata metadata = 2; PodSandboxState state = 3; int64 created_at = 4; map<string, string> labels = 6; }
message ListPodSandboxResponse { repeated PodSandbox items = 1; }

message ImageSpec { string image = 1; }
message KeyValue { string key = 1; string value = 2; }
enum MountPropagation { PROPAGATION_PRIVATE = 0; PROPAGATION_HOST_TO_CONTAINER = 1; PROPAGATION_BIDIRECTIONAL = 2; }
message Mount { string container_path = 1; string host_path = 2; bool readonly = 3; MountPropagation propagation = 5; }
message LinuxContainerResources { int64 cpu_period = 1; int64 cpu_quota = 2; int64 cpu_shares = 3; int64 memory_limit_in_bytes = 4; int64 oom_score_adj = 5; }
message Capability { repeated string add_capabilities = 1; repeated string drop_capabilities = 2; }
message LinuxContainerSecurityContext {
  Capability capabilities = 1; bool privileged = 2; NamespaceOption namespace_options = 3; Int64Value run_as_user = 5; Int64Value run_as_group = 12;
  bool readonly_rootfs = 7; repeated int64 supplemental_groups = 8; bool no_new_privs = 11;
}
message LinuxContainerConfig { LinuxContainerResources resources = 1; LinuxContainerSecurityContext security_context = 2; }
message ContainerMetadata { string name = 1; uint32 attempt = 2; }
message ContainerConfig {
  ContainerMetadata metadata = 1; ImageSpec image = 2; repeated string command = 3; repeated string args = 4; string working_dir = 5;
  repeated KeyValue envs = 6; repeated Mount mounts = 7; map<string, string> labels = 9; map<string, string> annotations = 10;
  string log_path = 11; bool stdin = 12; bool stdin_once = 13; bool tty = 14; LinuxContainerConfig linux = 15;
}
message CreateContainerRequest { string pod_sandbox_id = 1; ContainerConfig config = 2; PodSandboxConfig sandbox_config = 3; }
message ContainerIdRequest { string container_id = 1; }
message ContainerIdResponse { string container_id = 1; }
message StopContainerRequest { string container_id = 1; int64 timeout = 2; }
message ContainerFilter { string id = 1; string pod_sandbox_id = 3; map<string, string> label_selector = 4; }
message ListContainersRequest { ContainerFilter filter = 1; }
enum ContainerState { CONTAINER_CREATED = 0; CONTAINER_RUNNING = 1; CONTAINER_EXITED = 2; CONTAINER_UNKNOWN = 3; }
message Container { string id = 1; string pod_sandbox_id = 2; ContainerMetadata metadata = 3; ContainerState state = 6; int64 created_at = 7; map<string, string> labels = 8; }
message ListContainersResponse { repeated Container containers = 1; }
message ContainerStatusRequest { string container_id = 1; bool verbose = 2; }
message ContainerStatus {
  string id = 1; ContainerMetadata metadata = 2; ContainerState state = 3; int64 created_at = 4; int64 started_at = 5; int64 finished_at = 6;
  int32 exit_code = 7; string reason = 10; string message = 11;
}
message ContainerStatusResponse { ContainerStatus status = 1; map<string, string> info = 2; }
message ExecSyncRequest { string container_id = 1; repeated string cmd = 2; int64 timeout = 3; }
message ExecSyncResponse { bytes stdout = 1; bytes stderr = 2; int32 exit_code = 3; }
message ExecRequest { string container_id = 1; repeated string cmd = 2; bool tty = 3; bool stdin = 4; bool stdout = 5; bool stderr = 6; }
message AttachRequest { string container_id = 1; bool stdin = 2; bool tty = 3; bool stdout = 4; bool stderr = 5; }
message UrlResponse { string url = 1; }

message Image { string id = 1; repeated string repo_tags = 2; }
message ImageStatusRequest { ImageSpec image = 1; bool verbose = 2; }
message ImageStatusResponse { Image image = 1; map<string, string> info = 2; }
message ListImagesResponse { repeated Image images = 1; }
`;

/** Method → [request, response] message. */
export const criMethods = {
  Version: ["RuntimeService", "Empty", "VersionResponse"],
  RunPodSandbox: ["RuntimeService", "RunPodSandboxRequest", "RunPodSandboxResponse"],
  StopPodSandbox: ["RuntimeService", "PodSandboxIdRequest", "Empty"],
  RemovePodSandbox: ["RuntimeService", "PodSandboxIdRequest", "Empty"],
  PodSandboxStatus: ["RuntimeService", "PodSandboxStatusRequest", "PodSandboxStatusResponse"],
  ListPodSandbox: ["RuntimeService", "ListPodSandboxRequest", "ListPodSandboxResponse"],
  CreateContainer: ["RuntimeService", "CreateContainerRequest", "ContainerIdResponse"],
  StartContainer: ["RuntimeService", "ContainerIdRequest", "Empty"],
  StopContainer: ["RuntimeService", "StopContainerRequest", "Empty"],
  RemoveContainer: ["RuntimeService", "ContainerIdRequest", "Empty"],
  ListContainers: ["RuntimeService", "ListContainersRequest", "ListContainersResponse"],
  ContainerStatus: ["RuntimeService", "ContainerStatusRequest", "ContainerStatusResponse"],
  ReopenContainerLog: ["RuntimeService", "ContainerIdRequest", "Empty"],
  ExecSync: ["RuntimeService", "ExecSyncRequest", "ExecSyncResponse"],
  Exec: ["RuntimeService", "ExecRequest", "UrlResponse"],
  Attach: ["RuntimeService", "AttachRequest", "UrlResponse"],
  ImageStatus: ["ImageService", "ImageStatusRequest", "ImageStatusResponse"],
  ListImages: ["ImageService", "Empty", "ListImagesResponse"],
} as const;
