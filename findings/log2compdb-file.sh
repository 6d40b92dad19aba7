#!/usr/bin/env bash
# log2compdb 0.2.5 (PyPI): where the object is not named like the source, "file" is the first letter of the object's name.
#
# One would expect "file" to be the source, which stands in the command. Automake names objects so by default where a
# program has flags of its own: prog-main.o of main.c. No tool finds the entry of main.c.
#
# Seen (the folder left out):
#   file util.c: gcc -c -o util.o util.c
#   file p: gcc -c -o prog-main.o main.c
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
python3 -m venv venv
venv/bin/pip install -q log2compdb==0.2.5 2>pip || {
	cat pip
	exit 1
}
touch main.c util.c
printf 'gcc -c -o %s\n' 'util.o util.c' 'prog-main.o main.c' >log
venv/bin/log2compdb -i log -o compile_commands.json -c gcc >/dev/null
python3 - <<'PY' | tee seen
import json
import os

for entry in json.load(open("compile_commands.json")):
    print(f"file {os.path.relpath(entry['file'])}: {' '.join(entry['arguments'])}")
PY
diff seen - <<'END'
file util.c: gcc -c -o util.o util.c
file p: gcc -c -o prog-main.o main.c
END
