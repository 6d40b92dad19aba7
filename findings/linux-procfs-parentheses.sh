#!/usr/bin/env bash
# python3-linux-procfs 0.6.3 (Debian; tuna rests on it): a parenthesis in a process's name makes fields wrong.
#
# /proc/PID/stat has the name in parentheses, unquoted, so it ends at the last ")". One would expect a library for these
# files to know that: each machine with systemd runs a process that is called "(sd-pam)". The library calls it "sd-pam",
# and find_by_name("(sd-pam)") finds nothing. Of a name with blanks and a parenthesis, such as "tool (2) beta", the rest
# becomes the state, the parent, and all that follows.
#
# Seen (name, state, whether the parent is right, whether it is found by its name):
#   worker R True True
#   sd-pam R True False
#   tool 2 False False
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
apt-get -qq -o APT::Sandbox::User=root download python3-linux-procfs=0.6.3-1.1+b2 >/dev/null
dpkg -x python3-linux-procfs_*.deb root
cat >look.py <<'END'
import ctypes, os, sys
sys.path.insert(0, "root/usr/lib/python3/dist-packages")
import procfs

for name in "worker", "(sd-pam)", "tool (2) beta":
    ctypes.CDLL(None).prctl(15, name.encode())  # PR_SET_NAME
    stat = procfs.pidstat(os.getpid())
    found = os.getpid() in procfs.pidstats().find_by_name(name)
    print(stat["comm"], stat["state"], stat["ppid"] == os.getppid(), found)
END
/usr/bin/python3 look.py | tee seen
diff seen - <<'END'
worker R True True
sd-pam R True False
tool 2 False False
END
