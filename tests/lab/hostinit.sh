#!/bin/sh
# What makes a set of fresh namespaces into a host of its own. Runs below PID 1 of the host,
# with everything outside still in sight:  hostinit.sh NAME FOLDER
set -eu
name=$1 folder=$2

# /proc is still the outer one, so this is how the outside knows the host's PID 1.
read -r _ _ _ init _ </proc/self/stat

hostname "$name"
mount -t proc proc /proc

# /sys must show this network namespace; the control groups below it stay those of the machine.
mkdir -p "$folder/cgroup"
mount --rbind /sys/fs/cgroup "$folder/cgroup"
mount -t sysfs sysfs /sys
mount --rbind "$folder/cgroup" /sys/fs/cgroup
umount -l "$folder/cgroup"

# Sockets, locks and pid files of other daemons are none of this host's.
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock

# Docker keeps the engine's identity in /etc/docker; programs may take the machine's for theirs.
mkdir -p "$folder/etc-docker" /etc/docker
mount --bind "$folder/etc-docker" /etc/docker
if [ -e /etc/machine-id ]; then
    mount --bind "$folder/machine-id" /etc/machine-id
fi

ip link set lo up
echo 1 >/proc/sys/net/ipv4/ip_forward

echo "$init"
exec sleep infinity >/dev/null
