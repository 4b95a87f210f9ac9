#!/usr/bin/env bash
# git syncs a reftable before it has written the end of it, also when it is told to sync references.
#
# Version: git 2.47.3 (Debian's 1:2.47.3-0+deb13u1 and a build from source), strace 6.1.
# Guess made beforehand: with `core.fsync=reference` (or `all`) a new table is on the disk, whole, before `tables.list`
#   names it: write, write, fsync, rename, as git does with loose references.
# Behaviour: git writes the blocks of the table, syncs it, writes its footer, and renames it without another sync. The
#   list, which names the table, is synced. A table without its footer is unreadable, and with one such table all
#   references are.
# Seen:
#   write(.temp) fsync(.temp) write(.temp) rename(.temp) write(tables.list.lock) fsync(tables.list.lock) rename
#   without what was written after the sync: 'fatal: ambiguous argument HEAD', and `git for-each-ref` prints nothing
# Why it matters: a power cut just after a commit can take every branch and tag at once, where with references as files it
#   takes the one that was moved at most. Whoever needs references that survive a power cut keeps them as files, or syncs
#   each table himself before anything else happens.
#
# Exits 0 if git still does so, 1 if it does not, 2 if it cannot be tried here (git 2.45 or newer and strace are needed).
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export HOME=$dir GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org

if ! command -v strace >/dev/null; then
    # Not installed, only unpacked; its libraries are everybody's.
    apt-get download -q strace >/dev/null 2>&1 && dpkg -x strace_*.deb unpacked || { echo "strace is not to be had"; exit 2; }
    PATH=$dir/unpacked/usr/bin:$PATH
fi
git --version
strace --version | head -n 1
git init -q --ref-format=reftable repo 2>/dev/null || { echo "this git knows no reftable"; exit 2; }
cd repo
git commit -q --allow-empty -m begin
commit=$(git rev-parse HEAD)

strace -f -y -e trace=write,fsync,fdatasync,rename -o "$dir/trace" \
    git -c core.fsync=all -c core.fsyncMethod=fsync update-ref refs/heads/more "$commit"
echo "--- what becomes of the new table and of the list that names it"
grep reftable "$dir/trace" | sed -E 's/^[0-9]+ +//; s/"REFT[^"]*"\.*/"…"/; s/, "[^"]*"\.*, ([0-9]+)\)/, …, \1)/; s|/[^ ,">]*/reftable/||g'

# Bytes that were written to the table after it was synced for the last time.
table=$(tail -n 1 .git/reftable/tables.list)
late=$(grep -E 'reftable/[^ ]*\.temp' "$dir/trace" | awk '
    /(fsync|fdatasync)\(/ { late = 0 }
    /write\(/ { late += $NF }
    END { print late + 0 }')
echo "bytes of $table that were written after it was synced: $late"
if [ "$late" -eq 0 ]; then
    echo "CHANGED: the table is synced whole"
    exit 1
fi

# What a power cut may leave: what was synced, and nothing else.
chmod u+w ".git/reftable/$table"
truncate -s "-$late" ".git/reftable/$table"
echo "--- without them:"
git rev-parse HEAD 2>&1 | head -n 1 || true
echo "references that git still finds: $(git for-each-ref 2>/dev/null | wc -l)"
if git rev-parse -q --verify HEAD >/dev/null 2>&1; then
    echo "CHANGED: a table without its end is read, or left out"
    exit 1
fi
