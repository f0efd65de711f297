/**
 * A part of a stored Kubernetes object (a spec, a container, a webhook, a schema). It was parsed and validated once on its way in, and
 * its kinds are many and open, so those who know a kind read its fields without parsing them again.
 */
// oxlint-disable-next-line typescript/no-explicit-any -- see above: the one alias of the API server for validated JSON
export type Stored = any;
