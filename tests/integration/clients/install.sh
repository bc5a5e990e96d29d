#!/bin/sh
# Install the clients that the tests beside this file try, into the directory given, and nothing elsewhere.
# Needs npm, and python3 with venv; takes what they download from your registries.
set -eu
mkdir -p "$1"
cd "$1"
[ -f package.json ] || echo '{"private": true}' > package.json
npm install --no-audit --no-fund --silent \
    @modelcontextprotocol/sdk@1.32.2 \
    @modelcontextprotocol/client@2.4.0 \
    @modelcontextprotocol/inspector@2.12.0 \
    @modelcontextprotocol/conformance@0.1.16
if ! node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 22 || (a === 22 && b >= 19) ? 0 : 1)'
then # the Inspector needs 22.19; this is the same program as an npm package
    system=$(node -p 'process.platform + "-" + process.arch')
    npm install --no-audit --no-fund --silent "node-$system@22"
    ln -sf "../node-$system/bin/node" node_modules/.bin/node
fi
[ -x mcp1/bin/python ] || "${PYTHON:-python3}" -m venv mcp1
mcp1/bin/pip install -q --disable-pip-version-check 'mcp<2'
