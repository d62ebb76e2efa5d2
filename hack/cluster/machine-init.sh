#!/usr/bin/env bash
# The first process of a machine: makes its file systems and becomes systemd. It
# runs in mount, pid, uts, ipc, cgroup and network namespaces of the machine's own.
set -euo pipefail
root=$1

mount --make-rprivate /
mount --bind "$root" "$root"
cd "$root"

mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp

# Devices: only those that do no harm.
mount -t tmpfs -o mode=755 tmpfs dev
for node in null zero full random urandom tty; do
	touch dev/$node
	mount --bind /dev/$node dev/$node
done
ln -s /proc/self/fd dev/fd
mkdir dev/pts dev/shm dev/mqueue
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs tmpfs dev/shm
mount -t mqueue mqueue dev/mqueue
touch dev/kmsg
mount --bind /dev/null dev/kmsg

# The kernel's settings are the outer machine's and cannot be written, but for
# those of the network, which are the namespace's own. What kubelet and a playbook
# write besides is caught by files.
mkdir run/proc run/sysctl
mount -t proc proc run/proc
for s in vm/overcommit_memory vm/panic_on_oom vm/swappiness kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
	cat "/proc/sys/$s" >"run/sysctl/${s//\//.}"
done
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount --bind run/proc/sys/net proc/sys/net
for file in run/sysctl/*; do
	s=${file##*/}
	mount --bind "$file" "proc/sys/${s//.//}"
done
umount -l run/proc
rmdir run/proc

# Its own part of every cgroup hierarchy is all that it sees.
mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
for h in /sys/fs/cgroup/*; do
	name=${h##*/}
	mkdir "sys/fs/cgroup/$name"
	case $name in
	unified) mount -t cgroup2 cgroup2 "sys/fs/cgroup/$name" ;;
	systemd) mount -t cgroup -o none,name=systemd cgroup "sys/fs/cgroup/$name" ;;
	*) mount -t cgroup -o "$name" cgroup "sys/fs/cgroup/$name" ;;
	esac
done

hostname "$(cat etc/hostname)"
mkdir -p run/old-root
pivot_root . run/old-root
mount --make-rshared /
umount -l /run/old-root
exec env -i container=docker PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
	SYSTEMD_PROC_CMDLINE=systemd.legacy_systemd_cgroup_controller=yes /lib/systemd/systemd
