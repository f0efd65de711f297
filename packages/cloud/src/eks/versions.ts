/** The Kubernetes versions a cluster may ask for. The control plane reports the one asked for. */
export const versions: readonly string[] = ["1.34", "1.33", "1.32", "1.31"];
export const defaultVersion = "1.33";
