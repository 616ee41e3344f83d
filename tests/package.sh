#!/usr/bin/env bash
# Builds the Debian packages, installs them, runs what is in them, upgrades, removes and purges them.
#
#   tests/package.sh [--dist]
#
# All of it happens to a copy of this machine's root file system that lies in memory (an overlay in a mount namespace,
# with a network of its own): the machine itself stays as it was. Wants root, Debian's dpkg and cargo-deb; where one of
# them is missing, it says so and ends with status 77. One minute when the programs are built.
set -euo pipefail
cd "$(dirname "$0")/.."
profile=(--dev)
[ "${1:-}" != --dist ] || profile=()

missing() {
  echo "left out: $1"
  exit 77
}
if [ "$(id -u)" != 0 ]; then missing 'namespaces and users of packages want root'; fi
for program in dpkg apt-get dpkg-shlibdeps adduser unshare ip setpriv; do
  command -v "$program" >/dev/null || missing "$program is not installed"
done
unshare --mount --net --pid --fork true 2>/dev/null || missing 'this system gives no namespaces'
cargo deb --version >/dev/null 2>&1 || missing 'cargo-deb is not installed: cargo install --locked cargo-deb'

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
before=$(cat /var/lib/dpkg/status /etc/passwd /etc/group | cksum)
contrib/package "${profile[@]}" --out "$scratch/debs"
contrib/package "${profile[@]}" --revision 2 --out "$scratch/debs"

cat >"$scratch/inside" <<'INSIDE'
set -euo pipefail
server_pid=
trap 'test -z "$server_pid" || kill "$server_pid"; [ $? = 0 ] || { echo "FAILED at line $LINENO" >&2; cat /tmp/etcd.log >&2 || true; }' EXIT

step() {
  echo "--- $*"
}
fail() {
  echo "$*" >&2
  exit 1
}

# Runs the server as the unit does: its user, its variables, its command.
start() {
  local unit=/usr/lib/systemd/system/etcd.service
  (
    set -a
    ETCD_NAME=$(hostname)
    eval "$(sed -n 's/^Environment=\(ETCD_DATA_DIR=.*\)/\1/p' $unit)"
    . /etc/default/etcd
    set +a
    umask 0077
    exec setpriv --reuid etcd --regid etcd --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all \
      $(sed -n 's/^ExecStart=//p' $unit | sed "s/\$DAEMON_ARGS/${DAEMON_ARGS:-}/") 2>>/tmp/etcd.log
  ) &
  server_pid=$!
  for _ in $(seq 100); do
    etcdctl cluster-health >/dev/null 2>&1 && return
    sleep 0.1
  done
  fail 'the server does not serve'
}
stop() {
  kill "$server_pid"
  wait "$server_pid" || true
  server_pid=
}

cd /
export PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive
ip link set lo up

step 'install, in the place of any other etcd'
rm -rf /var/lib/etcd
apt-get install --quiet --yes -o Dpkg::Use-Pty=0 /tmp/debs/etcd-rs-*_*-1_*.deb
for package in etcd-rs-server etcd-rs-client; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' $package)" = installed ] || fail "$package is not installed"
  dpkg --verify $package
done
[ "$(stat -c '%U:%G %a' /var/lib/etcd)" = 'etcd:etcd 700' ] || fail "$(stat /var/lib/etcd)"
etcd --version | grep -q 'etcd-rs Version'
for page in etcd etcdctl etcd-dump etcd-migrate etcdctl-set; do
  zcat /usr/share/man/man1/$page.1.gz | grep -q '^\.SH NAME' || fail "no page $page"
done
for program in etcd etcdctl etcd-dump etcd-migrate; do
  bash -n /usr/share/bash-completion/completions/$program
done
if command -v systemd-analyze >/dev/null; then
  systemd-analyze verify /usr/lib/systemd/system/etcd.service
  for socket in /usr/share/doc/etcd-rs-server/examples/*.socket; do
    systemd-analyze verify "$socket"
  done
fi
[ -L /etc/systemd/system/multi-user.target.wants/etcd.service ] || fail 'the unit is not enabled'

step 'run it'
echo 'ETCD_SNAPSHOT_COUNT=100' >>/etc/default/etcd
start
[ "$(etcdctl set /message 'from the package')" = 'from the package' ]
etcd-dump /var/lib/etcd | grep -q /1/message
[ "$(stat -c %U /var/lib/etcd/member)" = etcd ]
stop

step 'upgrade'
dpkg --install /tmp/debs/etcd-rs-*_*-2_*.deb
dpkg-query -W -f '${Version}\n' etcd-rs-server | grep -q -- '-2$' || fail 'the version is the old one'
grep -q '^ETCD_SNAPSHOT_COUNT=100' /etc/default/etcd || fail 'the settings are gone'
start
[ "$(etcdctl get /message)" = 'from the package' ]
stop

step 'remove'
dpkg --remove etcd-rs-server etcd-rs-client
! command -v etcd || fail 'there is an etcd'
[ -d /var/lib/etcd/member/wal ] || fail 'the data are gone'
[ -e /etc/default/etcd ] || fail 'the settings are gone'
getent passwd etcd >/dev/null

step 'purge'
dpkg --purge etcd-rs-server etcd-rs-client | tee /tmp/said
grep -q 'The data in /var/lib/etcd stay' /tmp/said
[ -d /var/lib/etcd/member/wal ] || fail 'the data are gone'
[ ! -e /etc/default/etcd ] || fail 'the settings are there'
[ ! -e /etc/systemd/system/multi-user.target.wants/etcd.service ] || fail 'the unit is enabled'

step 'install again, where data are, and purge without any'
chmod 0750 /var/lib/etcd
dpkg --install /tmp/debs/etcd-rs-*_*-2_*.deb
[ "$(stat -c %a /var/lib/etcd)" = 750 ] || fail 'a directory that was there was changed'
rm -rf /var/lib/etcd/*
dpkg --purge etcd-rs-server etcd-rs-client
[ ! -e /var/lib/etcd ] || fail 'an empty directory stays'
INSIDE

# The copy: what is written goes to memory, and is gone with the namespace.
cat >"$scratch/copy" <<'COPY'
set -euo pipefail
scratch=$1
mount -t tmpfs -o mode=0755 tmpfs "$scratch/memory"
mkdir "$scratch/memory/upper" "$scratch/memory/work" "$scratch/memory/root"
root=$scratch/memory/root
mount -t overlay -o "lowerdir=/,upperdir=$scratch/memory/upper,workdir=$scratch/memory/work" overlay "$root"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
# A system with /usr or /var of its own would otherwise miss it.
for part in /usr /var; do
  if mountpoint -q "$part"; then
    echo "left out: $part is a file system of its own"
    exit 77
  fi
done
cp -r "$scratch/debs" "$scratch/inside" "$root/tmp/"
exec chroot "$root" bash /tmp/inside
COPY
mkdir "$scratch/memory"
unshare --mount --net --pid --fork --kill-child bash "$scratch/copy" "$scratch"

after=$(cat /var/lib/dpkg/status /etc/passwd /etc/group | cksum)
[ "$before" = "$after" ] || { echo 'the machine was changed' >&2; exit 1; }
echo 'the packages are good'
