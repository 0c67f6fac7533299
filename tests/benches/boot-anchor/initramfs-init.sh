#!/usr/bin/busybox sh
# The same for every system: drivers, a process that stays behind to be asked for figures, one
# frame by which the host finds the guest's clock, the root, the moment of exec.
export PATH=/usr/bin:/usr/sbin
alias b=/usr/bin/busybox
b mount -t devtmpfs dev /dev
b mount -t proc proc /proc
b mount -t tmpfs -o size=64k marks /marks
b modprobe -a nfit nd_pmem squashfs ext4 virtio_net
until [ -b "$ANCHOR_ROOT" ]; do b usleep 20000; done
# In mounts of its own, which switch_root leaves alone.
b unshare -m /usr/bin/busybox sh /observer &
until [ -e /marks/ready ]; do b usleep 10000; done

b mount -t tracefs trace /trace
cd /trace
echo 4 > buffer_size_kb
echo mono > trace_clock
echo 1 > events/net/net_dev_start_xmit/enable
b ip link set eth0 up
b arping -D -q -c 1 -w 1 -I eth0 10.0.2.2
b ip link set eth0 down
echo 0 > events/net/net_dev_start_xmit/enable
b grep 'protocol=0x0806' trace > /marks/frame
cd /
b umount /trace

b mount -o "$ANCHOR_MODE" "$ANCHOR_ROOT" /root
b mount --move /dev /root/dev
. /figures
# So that the shell's turn on the CPU begins here.
b usleep 1000
clock; work
echo "$clock $work" > /marks/exec
unset ANCHOR_ROOT ANCHOR_MODE
exec /usr/bin/busybox switch_root /root /sbin/init
