#!/bin/sh
# Starts containerd in an instance: start-containerd.sh <name of the instance's cgroup> <config file>
#
# runc needs the cgroup hierarchies. The instance gets a cgroup of its own in each (below the one it was started in), and a cgroup
# namespace in which that is the root, so that whatever containerd makes ends up there; `down` and TerminateInstances remove it.
# Works on cgroup v1, v2 and the hybrid of both.
set -eu
name=$1 config=$2

controllers_of() { # the second field of a line of /proc/self/cgroup
  case $1 in '') echo unified ;; name=*) echo "${1#name=}" ;; *) echo "$1" ;; esac
}
mount_hierarchy() { # controllers, target
  mkdir -p "$2"
  case $1 in
    '') mount -t cgroup2 cgroup2 "$2" ;;
    name=*) mount -t cgroup -o "none,$1" cgroup "$2" ;;
    *) mount -t cgroup -o "$1" cgroup "$2" ;;
  esac
}

if [ "$name" = --inside ]; then
  # In the cgroup namespace: the hierarchies as runc will see them.
  pure=$(wc -l </proc/self/cgroup)
  if ! grep -q ' /sys/fs/cgroup ' /proc/self/mounts; then
    if [ "$pure" = 1 ]; then
      mount -t cgroup2 cgroup2 /sys/fs/cgroup
      mkdir -p /sys/fs/cgroup/system # v2 allows processes in leaves only
    else
      mount -t tmpfs -o mode=755,nosuid,nodev,noexec cgroup /sys/fs/cgroup
      while IFS=: read -r _ controllers _; do
        mount_hierarchy "$controllers" "/sys/fs/cgroup/$(controllers_of "$controllers")"
      done </proc/self/cgroup
    fi
  fi
  [ "$pure" != 1 ] || echo $$ >/sys/fs/cgroup/system/cgroup.procs
  exec containerd --config "$config"
fi

root=$(mktemp -d /run/cgroup-XXXXXX)
while IFS=: read -r _ controllers path; do
  at=$root/$(controllers_of "$controllers")
  mount_hierarchy "$controllers" "$at"
  # Started again by a process that is in it already (a kubelet's restart).
  case $path in */"$name" | */"$name"/*) path=${path%"/$name"*} ;; esac
  own=$at$path/$name
  mkdir -p "$own"
  for file in cpuset.cpus cpuset.mems; do
    [ ! -e "$at$path/$file" ] || cat "$at$path/$file" >"$own/$file" 2>/dev/null || true
  done
  echo $$ >"$own/cgroup.procs"
  umount "$at"
done </proc/self/cgroup
rm -rf "$root"
exec unshare --cgroup /bin/sh "$0" --inside "$config"
