#!/usr/bin/env bash
# @stroncium/procfs 1.2.1 (npm): a process without supplementary groups has the groups [NaN].
#
# One would expect []. The kernel writes "Groups:\t \n" for it, as for daemons that have dropped theirs, and for root in
# many containers: the blank is taken for a number. groups.length is 1, and JSON has [null].
#
# Seen (without groups; with 4 and 5):
#   [null]
#   [4,5]
set -euo pipefail
[ "$(id -u)" = 0 ] || { echo "it takes root, to drop groups"; exit 1; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
chmod 755 .
npm init -y >/dev/null
npm install --silent --no-audit --no-fund @stroncium/procfs@1.2.1 >/dev/null
program='console.log(JSON.stringify(require("@stroncium/procfs").procfs.processStatus().groups))'
{
	setpriv --clear-groups node -e "$program"
	setpriv --groups 4,5 node -e "$program"
} | tee seen
diff seen - <<'END'
[null]
[4,5]
END
