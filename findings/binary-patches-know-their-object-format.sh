#!/usr/bin/env bash
# A binary patch can be applied in repositories of one object format alone, and outside of any repository only if it is SHA-1.
#
# Version: git 2.47.3.
# Guess made beforehand: a patch is self-contained. `git apply` uses the ids of a binary patch's `index` line to see that the
#   file is the right one where it can, and outside of a repository, where there are no objects, a patch of either kind
#   applies; or at least `GIT_DEFAULT_HASH` says which kind is taken there.
# Behaviour: where the ids of the `index` line are not as long as those of the repository that git stands in, a binary patch is
#   refused with "cannot apply binary patch to '…' without full index line", although the line is there, in full. Outside of a
#   repository SHA-1 is taken whatever GIT_DEFAULT_HASH says. Text, mode changes, empty files and renames apply everywhere.
# Seen:
#   in sha1    a sha1 patch applies, a sha256 patch is refused
#   in sha256  a sha1 patch is refused, a sha256 patch applies
#   in none    a sha1 patch applies, a sha256 patch is refused, also with GIT_DEFAULT_HASH=sha256
# Why it matters: whoever makes git's diffs without git has to know where they are going to be applied; and one who carries
#   patches from a SHA-256 repository to anywhere else loses the binary files, with a message that points elsewhere.
#
# Exits 0 if git still does so, 1 if it does not, 2 if it cannot be tried here.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export HOME=$dir GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null GIT_CEILING_DIRECTORIES=$dir
unset GIT_DEFAULT_HASH
git --version

for format in sha1 sha256; do
    git init -q --object-format="$format" "$format" || exit 2
    printf 'a\n' >"$format/text"
    printf 'a\0b' >"$format/binary"
    git -C "$format" add .
    printf 'b\n' >"$format/text"
    printf 'c\0d' >"$format/binary"
    for file in text binary; do
        git -C "$format" diff --binary --full-index -- "$file" >"$format.$file"
    done
    git -C "$format" checkout -q -- .
done
mkdir none
cp sha1/text sha1/binary none/

changed=0
# place, patch, whether it applies, variables
expect() {
    local place=$1 patch=$2 wanted=$3 found=refused
    shift 3
    (cd "$place" && env "$@" git apply --check "../$patch" 2>"$dir/said") && found=applies
    echo "$place: $patch ${*:+($*) }$found$([ $found = applies ] || echo ", $(head -n 1 "$dir/said")")"
    [ "$found" = "$wanted" ] || { echo "CHANGED: $wanted was seen before"; changed=1; }
}
for place in sha1 sha256 none; do
    expect "$place" sha1.text applies
    expect "$place" sha256.text applies
done
expect sha1 sha1.binary applies
expect sha1 sha256.binary refused
expect sha256 sha1.binary refused
expect sha256 sha256.binary applies
expect none sha1.binary applies
expect none sha256.binary refused
expect none sha256.binary refused GIT_DEFAULT_HASH=sha256
exit $changed
