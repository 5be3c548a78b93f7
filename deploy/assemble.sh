#!/bin/sh
# Puts the two programs into a folder: JavaScript, production packages, nothing else. The Dockerfile runs these steps.
# usage: deploy/assemble.sh FOLDER      (from the project's root, development packages installed)
set -eu
out=$1
mkdir -p "$out"
npm run --silent build
for part in bin broker connector contracts kernel policies; do
  (cd dist && find "$part" -name '*.js' -o -name '*.json' | grep -v '\.test\.js$') | while read -r file; do
    mkdir -p "$out/dist/$(dirname "$file")"
    cp "dist/$file" "$out/dist/$file"
  done
done
cp -r policies/templates "$out/dist/policies/"
cp package.json package-lock.json LICENSE "$out/"
(cd "$out" && npm ci --omit=dev --omit=optional --ignore-scripts --no-audit --no-fund)
