#!/bin/sh
# Puts the two programs into a folder: JavaScript, production packages, nothing else. The Dockerfile runs these steps.
# usage: sh deploy/assemble.sh FOLDER      (from the project's root, development packages installed; FOLDER is new or empty)
set -eu
out=$1
[ -z "$(ls -A "$out" 2>/dev/null || true)" ] || { echo "$out is not empty" >&2; exit 1; }
mkdir -p "$out/dist"
node_modules/.bin/tsc -b bin
# Only what a source stands for: an older build may have left more in dist.
for part in bin broker connector contracts kernel policies; do
  find "$part" -name '*.ts' ! -name '*.test.ts' ! -name '*.d.ts' | while read -r source; do
    file="${source%.ts}.js"
    mkdir -p "$out/dist/$(dirname "$file")"
    cp "dist/$file" "$out/dist/$file"
  done
done
# What the programs read besides code, at the places where they look for it.
mkdir -p "$out/dist/policies/templates" "$out/dist/contracts/anchor"
cp policies/templates/*.jsonld "$out/dist/policies/templates/"
cp contracts/anchor/stekker-anchor.json "$out/dist/contracts/anchor/"
cp package.json package-lock.json LICENSE "$out/"
(cd "$out" && npm ci --omit=dev --omit=optional --ignore-scripts --no-audit --no-fund)
