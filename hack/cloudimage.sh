#!/usr/bin/env bash
# hack/cloudimage.sh [IMAGE]: makes IMAGE, build/cloudimage.qcow2 by default, a Debian 12
# with systemd, cloud-init, the distribution's kernel and a boot loader, as cloud images
# are, from the mirror that apt uses. It mounts nothing. It is made once; remove it for a
# fresh one.
#
# What is not as in Debian's own images: no ssh server and no network configuration, an
# initramfs with the few modules that a virtio machine boots with, which takes less time
# without KVM, and a unit that writes what `cloud-init status` says into the share, where
# the tests look.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=hack/lib.sh
. hack/lib.sh

image=${1-build/cloudimage.qcow2}
work=$image.new
root=$work/root

# In MiB. The second partition, the root file system, begins where the first one ends.
boot_size=96
root_size=1600

# shellcheck disable=SC2016 # mmdebstrap's shell expands what hooks say
make_root() {
	bootstrap "$root" \
		--include=systemd-sysv,udev,dbus,kmod,iproute2,cloud-init,locales,initramfs-tools,linux-image-amd64 \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt=force-unsafe-io \
		--essential-hook='mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/usr/share/initramfs-tools/modules.d"' \
		--essential-hook='echo MODULES=list >"$1/etc/initramfs-tools/conf.d/virtio.conf"' \
		--essential-hook='printf "%s\n" virtio_pci virtio_blk ext4 >"$1/usr/share/initramfs-tools/modules.d/virtio"'
	echo 'LABEL=root / ext4 defaults 0 1' >"$root/etc/fstab"
	make_locale
	report_status
}

# cloud-init would make it at the first boot.
make_locale() {
	echo 'en_US.UTF-8 UTF-8' >"$root/etc/locale.gen"
	echo 'LANG=en_US.UTF-8' >"$root/etc/default/locale"
	chroot "$root" locale-gen >/dev/null
}

# The status of cloud-init, when it has ended, in a file that the host sees.
report_status() {
	cat >"$root/etc/systemd/system/report-status.service" <<-'UNIT'
		[Unit]
		Description=Tell the host how cloud-init has ended
		After=cloud-final.service

		[Service]
		Type=oneshot
		ExecStart=sh -c 'cloud-init status --wait --format json >/run/status.json; echo "exit $?" >>/run/status.json'
		ExecStart=cp /run/status.json /run/vmruntime/share/status.new
		ExecStart=mv /run/vmruntime/share/status.new /run/vmruntime/share/status

		[Install]
		WantedBy=cloud-init.target
	UNIT
	chroot "$root" systemctl enable report-status.service
}

# The first partition holds the boot loader with its files.
make_boot() {
	mformat -C -i "$work/boot" -F -T $((boot_size * 2048)) -h 255 -s 63 -H 2048 ::
	cat >"$work/syslinux.cfg" <<-'CONFIG'
		SERIAL 0 115200
		DEFAULT linux
		LABEL linux
		  LINUX vmlinuz
		  INITRD initrd.img
		  APPEND root=LABEL=root ro quiet console=ttyS0
	CONFIG
	mcopy -i "$work/boot" "$work/syslinux.cfg" ::syslinux.cfg
	mcopy -i "$work/boot" "$root"/boot/vmlinuz-* ::vmlinuz
	mcopy -i "$work/boot" "$root"/boot/initrd.img-* ::initrd.img
	syslinux --install "$work/boot"
}

make_disk() {
	local disk=$work/disk
	mke2fs -q -t ext4 -L root -d "$root" "$work/rootfs" "${root_size}M"
	truncate -s $((1 + boot_size + root_size + 1))M "$disk"
	sfdisk -q "$disk" <<-EOF
		label: dos
		start=1MiB, size=${boot_size}MiB, type=c, bootable
		start=$((1 + boot_size))MiB, size=${root_size}MiB, type=83
	EOF
	dd if=/usr/lib/syslinux/mbr/mbr.bin of="$disk" bs=440 count=1 conv=notrunc status=none
	dd if="$work/boot" of="$disk" bs=1M seek=1 conv=notrunc,sparse status=none
	dd if="$work/rootfs" of="$disk" bs=1M seek=$((1 + boot_size)) conv=notrunc,sparse status=none
	qemu-img convert -f raw -O qcow2 "$disk" "$work/image"
}

[ ! -e "$image" ] || exit 0
rm -rf --one-file-system "$work"
mkdir -p "$work"
make_root
make_boot
make_disk
mv "$work/image" "$image"
rm -rf --one-file-system "$work"
