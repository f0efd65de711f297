# The workshop's `prepare-environment [module]`, by kubectl and aws alone. A function, since it exports the module's variables
# into the calling shell. Before the module's own set-up it takes the last module back, applies the base application (pruning
# what does not belong to it) and brings the default node group to three Ready nodes.

prepare-environment() {
  local module=${1:-} last status=0
  local state=$HOME/.cache/prepare-environment workshop=$HOME/environment/eks-workshop
  case $module in
    "" | networking/prefix | networking/custom-networking) ;;
    *)
      echo "prepare-environment: there is no module '$module'. Modules: networking/custom-networking networking/prefix" >&2
      return 2
      ;;
  esac
  mkdir -p "$state"
  last=$(cat "$state/module" 2>/dev/null)

  _pe_step kubeconfig aws eks update-kubeconfig --name "$EKS_CLUSTER_NAME" || return
  _pe_variables || return
  # Also when it is the same module again: it begins from its own beginning.
  if [ -n "$last" ]; then
    echo "Cleaning up after $last"
    "_pe_clean_${last//[^a-z]/_}" || return
    rm -f "$state/module"
  fi
  if [ -n "$module" ]; then echo "$module" >"$state/module"; fi
  _pe_step "base application" kubectl apply -k "$workshop/base-application" --prune --all \
    --prune-allowlist=core/v1/Service \
    --prune-allowlist=core/v1/ConfigMap --prune-allowlist=apps/v1/Deployment --prune-allowlist=apps/v1/StatefulSet \
    --prune-allowlist=core/v1/ServiceAccount --prune-allowlist=core/v1/Secret \
    --prune-allowlist=core/v1/PersistentVolumeClaim --prune-allowlist=networking.k8s.io/v1/Ingress || return
  _pe_three_nodes || return
  if [ -n "$module" ]; then "_pe_setup_${module//[^a-z]/_}" || return; fi
  _pe_step "pods of the base application" _pe_pods_ready || return
  echo "Environment is ready${module:+ for $module}"
}

# Runs a command; says nothing but what failed.
_pe_step() {
  local what=$1 output
  shift
  if output=$("$@" 2>&1); then
    echo "  $what"
  else
    echo "prepare-environment: cannot finish '$what': $output" >&2
    return 1
  fi
}

# What every module may use.
_pe_variables() {
  VPC_ID=$(aws eks describe-cluster --name "$EKS_CLUSTER_NAME" --query cluster.resourcesVpcConfig.vpcId --output text) || return
  EKS_CLUSTER_SECURITY_GROUP_ID=$(aws eks describe-cluster --name "$EKS_CLUSTER_NAME" \
    --query cluster.resourcesVpcConfig.clusterSecurityGroupId --output text) || return
  export VPC_ID EKS_CLUSTER_SECURITY_GROUP_ID
}

_pe_pods_ready() {
  local label=app.kubernetes.io/created-by=eks-workshop
  kubectl wait --for=condition=available deployment -A -l "$label" --timeout=300s &&
    kubectl wait --for=jsonpath='{.status.readyReplicas}'=1 statefulset -A -l "$label" --timeout=300s
}

# The default node group as the workshop has it, with its nodes Ready.
_pe_three_nodes() {
  local group=(--cluster-name "$EKS_CLUSTER_NAME" --nodegroup-name "$EKS_DEFAULT_MNG_NAME") sizes
  local want="$EKS_DEFAULT_MNG_MIN $EKS_DEFAULT_MNG_MAX $EKS_DEFAULT_MNG_DESIRED"
  sizes=$(aws eks describe-nodegroup "${group[@]}" \
    --query 'nodegroup.scalingConfig.[minSize,maxSize,desiredSize]' --output text | tr '\t' ' ') || return
  if [ "$sizes" != "$want" ]; then
    aws eks wait nodegroup-active "${group[@]}" || return
    _pe_step "node group sizes" aws eks update-nodegroup-config "${group[@]}" --scaling-config \
      "minSize=$EKS_DEFAULT_MNG_MIN,maxSize=$EKS_DEFAULT_MNG_MAX,desiredSize=$EKS_DEFAULT_MNG_DESIRED" || return
  fi
  aws eks wait nodegroup-active "${group[@]}" || return
  _pe_step "$EKS_DEFAULT_MNG_DESIRED Ready nodes" _pe_until 300 _pe_nodes_are_ready
}

_pe_nodes_are_ready() {
  local ready
  ready=$(kubectl get nodes -l "eks.amazonaws.com/nodegroup=$EKS_DEFAULT_MNG_NAME" \
    -o jsonpath='{range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}') || return
  [ "$ready" = "$(yes True | head -n "$EKS_DEFAULT_MNG_DESIRED")" ]
}

# _pe_until SECONDS COMMAND...: tries it until it succeeds.
_pe_until() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    if [ "$SECONDS" -ge "$end" ]; then
      echo "it did not come true in time: $*" >&2
      return 1
    fi
    sleep 1
  done
}

_pe_setup_networking_prefix() { :; }
_pe_clean_networking_prefix() {
  _pe_step "pause pods" kubectl delete deployment pause-pods-prefix -n other --ignore-not-found
}

# A second block with a subnet in every zone, beside the private one and with its routes; the role of the new nodes.
_pe_setup_networking_custom_networking() {
  local tags="{Key=created-by,Value=eks-workshop-v2},{Key=env,Value=$EKS_CLUSTER_NAME}" index=0 primary zone secondary table
  if [ -z "$(_pe_association)" ]; then
    _pe_step "100.64.0.0/16" aws ec2 associate-vpc-cidr-block --vpc-id "$VPC_ID" --cidr-block 100.64.0.0/16 || return
  fi
  while read -r zone primary; do
    index=$((index + 1))
    secondary=$(_pe_secondary_subnets "$zone") || return
    if [ -z "$secondary" ]; then
      secondary=$(aws ec2 create-subnet --vpc-id "$VPC_ID" --availability-zone "$zone" \
        --cidr-block "100.64.$(((index - 1) * 32)).0/19" --query Subnet.SubnetId --output text \
        --tag-specifications "ResourceType=subnet,Tags=[{Key=Name,Value=$EKS_CLUSTER_NAME-custom-networking-$zone},$tags]") || return
      table=$(aws ec2 describe-route-tables --filters "Name=association.subnet-id,Values=$primary" \
        --query 'RouteTables[0].RouteTableId' --output text) || return
      aws ec2 associate-route-table --route-table-id "$table" --subnet-id "$secondary" >/dev/null || return
    fi
    export "PRIMARY_SUBNET_$index=$primary" "SECONDARY_SUBNET_$index=$secondary" "SUBNET_AZ_$index=$zone"
  done < <(aws ec2 describe-subnets --filters "Name=vpc-id,Values=$VPC_ID" 'Name=tag:Name,Values=*Private*' \
    "Name=tag:created-by,Values=eks-workshop-v2" --query 'sort_by(Subnets,&AvailabilityZone)[].[AvailabilityZone,SubnetId]' --output text)
  if [ "$index" = 0 ]; then
    echo "prepare-environment: cannot add subnets: VPC $VPC_ID has no private ones" >&2
    return 1
  fi
  export CUSTOM_NETWORKING_NODE_ROLE="arn:aws:iam::$AWS_ACCOUNT_ID:role/$EKS_CLUSTER_NAME-custom-networking-node"
  echo "  100.64.0.0/16 with $index subnets"
}

_pe_association() {
  aws ec2 describe-vpcs --vpc-ids "$VPC_ID" --output text \
    --query "Vpcs[0].CidrBlockAssociationSet[?CidrBlock=='100.64.0.0/16'].AssociationId"
}

# _pe_secondary_subnets [ZONE]
_pe_secondary_subnets() {
  aws ec2 describe-subnets --filters "Name=vpc-id,Values=$VPC_ID" "Name=availability-zone,Values=${1:-*}" \
    'Name=cidr-block,Values=100.64.*' --query 'Subnets[].SubnetId' --output text
}

# Nodes that ran with custom networking keep its ENIs: new ones take their places.
_pe_new_default_nodes() {
  local ids
  ids=$(aws ec2 describe-instances --filters "Name=tag:eks:nodegroup-name,Values=$EKS_DEFAULT_MNG_NAME" \
    "Name=tag:eks:cluster-name,Values=$EKS_CLUSTER_NAME" Name=instance-state-name,Values=running \
    --query 'Reservations[].Instances[].InstanceId' --output text) || return
  # shellcheck disable=SC2086
  _pe_step "new default nodes" aws ec2 terminate-instances --instance-ids $ids || return
  # shellcheck disable=SC2086
  _pe_step "end of the old ones" aws ec2 wait instance-terminated --instance-ids $ids || return
}

_pe_clean_networking_custom_networking() {
  local group=(--cluster-name "$EKS_CLUSTER_NAME" --nodegroup-name custom-networking) used subnet association
  used=$(kubectl get daemonset aws-node -n kube-system -o jsonpath='{.spec.template.spec.containers[?(@.name=="aws-node")].env[?(@.name=="AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG")].value}') || return
  _pe_step "ENIConfigs" kubectl delete eniconfigs --all || return
  _pe_step "settings of aws-node" kubectl set env daemonset aws-node -n kube-system \
    AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG=false ENI_CONFIG_LABEL_DEF- || return
  _pe_step "aws-node" kubectl rollout status daemonset/aws-node -n kube-system --timeout=180s || return
  if [ "$used" = true ]; then _pe_new_default_nodes || return; fi
  if aws eks describe-nodegroup "${group[@]}" >/dev/null 2>&1; then
    _pe_step "node group custom-networking" aws eks delete-nodegroup "${group[@]}" || return
    _pe_step "its nodes" aws eks wait nodegroup-deleted "${group[@]}" || return
  fi
  for subnet in $(_pe_secondary_subnets); do
    _pe_step "subnet $subnet" _pe_until 120 aws ec2 delete-subnet --subnet-id "$subnet" || return
  done
  association=$(_pe_association) || return
  if [ -n "$association" ]; then
    _pe_step "100.64.0.0/16" aws ec2 disassociate-vpc-cidr-block --association-id "$association" || return
  fi
  unset CUSTOM_NETWORKING_NODE_ROLE SECONDARY_SUBNET_1 SECONDARY_SUBNET_2 SECONDARY_SUBNET_3
}
