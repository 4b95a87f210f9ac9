#!/usr/bin/env bash
# `pm2 logs NAMESPACE` shows the logs of a namespace, and nothing at all with `--nostream`.
#
# Version: PM2 7.0.4 from npm, node 20.20.2.
# Guess made beforehand: `--nostream` only leaves out the following: it prints the last lines of the same logs that the command
#   without it begins with, for an app's name as for a namespace. Or a namespace is refused where it is not understood.
# Behaviour: an app's name is taken by both. A namespace is taken by `pm2 logs` (as by `pm2 stop` and `pm2 restart`), but with
#   `--nostream` it prints the heading "Tailing last … lines for [NAMESPACE]" without a line of any log, and ends with 0.
# Seen:
#   app, following: 1 line    app, --nostream: 1 line    namespace, following: 1 line    namespace, --nostream: 0 lines
# Why it matters: whoever gathers the logs of a group of apps in a script, or looks for an error in them, is told that there is
#   none. By a pattern (`pm2 logs /NAME/ --nostream`) or by each app's name they are there.
#
# Exits 0 if PM2 still does so, 1 if it does not, 2 if it cannot be tried here (node and npm are needed).
set -euo pipefail

command -v node npm >/dev/null || exit 2
dir=$(mktemp -d)
pm2() {
    "$dir/node_modules/.bin/pm2" "$@"
}
trap 'pm2 kill >/dev/null 2>&1 || true; rm -rf "$dir"' EXIT
cd "$dir"
export HOME=$dir PM2_HOME=$dir/home PM2_DISABLE_VERSION_CHECK=true NO_COLOR=1
npm install --prefix "$dir" --no-audit --no-fund --loglevel=error pm2@7.0.4 >/dev/null || exit 2
printf 'console.log("a line of the app");\nsetInterval(() => {}, 1000);\n' >app.js
pm2 start app.js --name the-app --namespace the-group >/dev/null

# Waits until the line is in the log on disk.
for _ in $(seq 600); do
    grep -qs 'a line of the app' "$PM2_HOME"/logs/the-app-out.log && break
    sleep 0.1
done

# How many lines of the app are shown under a name.
at_once() {
    pm2 logs "$1" --nostream --lines 10 | grep -c 'a line of the app' || true
}
following() {
    "$dir/node_modules/.bin/pm2" logs "$1" --lines 10 >"following.$1" &
    local follower=$!
    for _ in $(seq 100); do
        grep -q 'a line of the app' "following.$1" && break
        sleep 0.1
    done
    kill "$follower"
    wait "$follower" 2>/dev/null || true
    grep -c 'a line of the app' "following.$1" || true
}

seen="app: $(following the-app) and $(at_once the-app), namespace: $(following the-group) and $(at_once the-group)"
echo "$seen (following, at once)"
[ "$seen" = "app: 1 and 1, namespace: 1 and 0" ] || exit 1
