#!/usr/bin/env bash
# cmdbench 0.1.22 (PyPI): the exit_code of a command that a signal kills is 0.
#
# One would expect -9, as subprocess has it, or 137. A benchmark of a program that crashes, or that the kernel kills for
# want of memory, looks like one that has succeeded, and fast.
#
# Seen:
#   exit 3: 3
#   sleep 0.2; kill -9 $$: 0
#   sleep 0.2; kill -SEGV $$: 0
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
python3 -m venv venv
venv/bin/pip install -q cmdbench==0.1.22 2>pip || {
	cat pip
	exit 1
}
venv/bin/python - <<'PY' | tee seen
import cmdbench

for script in "exit 3", "sleep 0.2; kill -9 $$", "sleep 0.2; kill -SEGV $$":
    results = cmdbench.benchmark_command(f"sh -c '{script}'")
    print(f"{script}: {results.get_first_iteration()['process']['exit_code']}")
PY
diff seen - <<'END'
exit 3: 3
sleep 0.2; kill -9 $$: 0
sleep 0.2; kill -SEGV $$: 0
END
