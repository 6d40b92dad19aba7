#!/usr/bin/env bash
# cpulimit 2.8-1 (Debian 12): `cpulimit -l 50 -- COMMAND` ends with 0, however COMMAND ends.
#
# One would expect the status of COMMAND, as from nice, timeout or env, at the least with -f, which by its manual waits for
# COMMAND to exit. `cpulimit -f -l 50 -- make && ./install` goes on after a failed make. The manual does not say so.
#
# Seen:
#   -l 50 -- sh -c 'sleep 1; exit 3': 0
#   -f -l 50 -- sh -c 'sleep 1; exit 3': 0
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
chmod 755 .
apt-get download -qq cpulimit=2.8-1 2>apt || {
	cat apt
	exit 1
}
dpkg-deb -x cpulimit_*.deb root
for options in '-l 50' '-f -l 50'; do
	status=0
	timeout 60 root/usr/bin/cpulimit $options -- sh -c 'sleep 1; exit 3' >/dev/null 2>&1 || status=$?
	echo "$options -- sh -c 'sleep 1; exit 3': $status"
done | tee seen
diff seen - <<'END'
-l 50 -- sh -c 'sleep 1; exit 3': 0
-f -l 50 -- sh -c 'sleep 1; exit 3': 0
END
