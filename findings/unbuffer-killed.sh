#!/usr/bin/env bash
# expect 5.45.4-2+b1 (Debian 12): `unbuffer COMMAND` ends with 0 when a signal kills COMMAND.
#
# Its manual shows it in front of any program, and an exit status of 3 comes through. One would expect 137 for SIGKILL and
# 139 for SIGSEGV, as from a shell, env or script(1): a test that crashes below unbuffer passes. (Expect's `wait` gives a
# status of 0 and, behind it, CHILDKILLED. unbuffer looks at the status alone.)
#
# Seen:
#   exit 3: 3
#   kill -9 $$: 0
#   kill -SEGV $$: 0
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
chmod 755 .
apt-get download -qq expect=5.45.4-2+b1 tcl-expect=5.45.4-2+b1 tcl8.6=8.6.13+dfsg-2 libtcl8.6=8.6.13+dfsg-2 2>apt || {
	cat apt
	exit 1
}
for package in *.deb; do dpkg-deb -x "$package" root; done
libraries=$(echo "$tmp"/root/usr/lib/*-linux-*)
export PATH=$tmp/root/usr/bin:$PATH LD_LIBRARY_PATH=$libraries TCL_LIBRARY=$tmp/root/usr/share/tcltk/tcl8.6
TCLLIBPATH=$(echo "$tmp"/root/usr/lib/tcltk/*-linux-*)
export TCLLIBPATH
for script in 'exit 3' 'kill -9 $$' 'kill -SEGV $$'; do
	status=0
	unbuffer sh -c "$script" || status=$?
	echo "$script: $status"
done | tee seen
diff seen - <<'END'
exit 3: 3
kill -9 $$: 0
kill -SEGV $$: 0
END
