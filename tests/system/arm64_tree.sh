#!/bin/sh
# Makes a tree of Debian for arm64, as a tarball that is used again:
#
#     arm64_tree.sh SUITE TARBALL [MIRROR]
#
# Needs root, debootstrap and qemu-user-static. Registers the emulator where the kernel does not know it yet.
set -eu

suite=$1
tarball=$2
mirror=${3:-http://deb.debian.org/debian}
packages=python3,openssl,ca-certificates,curl,sudo
emulator=/usr/bin/qemu-aarch64-static
handlers=/proc/sys/fs/binfmt_misc

[ -x "$emulator" ] || { echo "$emulator is missing: apt install qemu-user-static" >&2; exit 3; }
command -v debootstrap >/dev/null || { echo "debootstrap is missing: apt install debootstrap" >&2; exit 3; }
[ -d "$handlers" ] || modprobe binfmt_misc 2>/dev/null || :
[ -e "$handlers/register" ] || mount -t binfmt_misc binfmt_misc "$handlers" 2>/dev/null || {
  echo "$handlers cannot be mounted: this kernel, or this container, runs no programs of other machines" >&2
  exit 3
}
if ! [ -e "$handlers/qemu-aarch64" ]; then
  # The first 20 bytes of an ELF file for arm64. F: the kernel opens the emulator now, so the tree need not hold it.
  magic='\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
  mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
  printf ':qemu-aarch64:M::%s:%s:%s:OCF' "$magic" "$mask" "$emulator" >"$handlers/register" || {
    echo "the emulator cannot be registered in $handlers" >&2
    exit 3
  }
fi
[ -s "$tarball" ] && exit 0

work=$(mktemp -d "$tarball.XXXXXX")
# debootstrap that is interrupted leaves the kernel's files mounted in the tree.
clean() {
  for point in proc sys; do
    ! mountpoint --quiet "$work/tree/$point" || umount --lazy "$work/tree/$point"
  done
  rm -rf --one-file-system "$work"
}
trap clean EXIT
trap 'exit 130' INT TERM
debootstrap --arch=arm64 --variant=minbase --include="$packages" "$suite" "$work/tree" "$mirror" >&2
chroot "$work/tree" apt-get clean
rm -rf "$work/tree/var/lib/apt/lists"
tar --create --gzip --numeric-owner --one-file-system --directory "$work/tree" --file "$work/tree.tar.gz" .
mv "$work/tree.tar.gz" "$tarball"
