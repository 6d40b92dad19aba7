#!/usr/bin/env bash
# compiledb 0.10.7 (PyPI): of a command that compiles two files only the last has an entry, and quotes inside a macro's
# value are lost.
#
# One would expect an entry for each source, as bear and cnproc write, and the macro as the compiler got it: "a b" with its
# quotes, a string of C. clangd then knows nothing of main.c, and reports errors that the compiler does not.
#
# Seen, of the two lines of a build log:
#   util.c: ["gcc", "-c", "main.c", "util.c"]
#   text.c: ["gcc", "-c", "-DTEXT=a b", "text.c"]
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
python3 -m venv venv
venv/bin/pip install -q compiledb==0.10.7 2>pip || {
	cat pip
	exit 1
}
touch main.c util.c text.c
cat >log <<'END'
gcc -c main.c util.c
gcc -c -DTEXT='"a b"' text.c
END
venv/bin/compiledb -p log -o compile_commands.json >/dev/null 2>&1
python3 - <<'PY' | sort -r | tee seen
import json

for entry in json.load(open("compile_commands.json")):
    print(f"{entry['file']}: {json.dumps(entry['arguments'])}")
PY
diff seen - <<'END'
util.c: ["gcc", "-c", "main.c", "util.c"]
text.c: ["gcc", "-c", "-DTEXT=a b", "text.c"]
END
