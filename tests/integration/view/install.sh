#!/bin/sh
# Install what the test beside this file needs into the directory given; needs npm, and chromium on the PATH.
set -eu
mkdir -p "$1"
cd "$1"
[ -f package.json ] || echo '{"private": true}' > package.json
npm install --no-audit --no-fund --silent \
    @modelcontextprotocol/client@2.4.0 \
    @modelcontextprotocol/core@2.4.0 \
    @modelcontextprotocol/ext-apps@2.0.4 \
    zod@4.6.7 \
    playwright-core@1.65.1 \
    esbuild@0.28.2
