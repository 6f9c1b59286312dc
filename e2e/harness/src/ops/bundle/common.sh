#!/bin/sh
# Written by `cargo xtask bundle` for {{ blueprint }} on {{ target }}. Needs kubectl, and what every POSIX system has.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
me=${0##*/}
# Seconds that each wait may take.
timeout=600

# What is wrong, what to do next, and the exit code: 1 the messages, 2 the usage, 3 a cluster or this machine.
fail() {
    printf '%s: %s\n  %s\n' "$me" "$1" "$2" >&2
    exit "$3"
}

refuse() {
    fail "$1" "\`$me --help\` says how it is used" 2
}

say() {
    printf '%s\n' "$*" >&2
}

# The value of a key in lines KEY=VALUE, the last one where there are several; nothing where there is none.
value_of() {
    printf '%s\n' "$2" | sed -n "s|^$1=||p" | tail -n 1
}

# The same in a file beside this script.
recorded() {
    if [ -f "$here/$1" ]; then
        value_of "$2" "$(cat "$here/$1")"
    fi
}

# Writes KEY=VALUE into a file beside this script, in place of what the key had.
record() {
    if [ -f "$here/$1" ]; then
        grep -v "^$2=" "$here/$1" >"$here/$1.$$" || true
    else
        : >"$here/$1.$$"
    fi
    printf '%s=%s\n' "$2" "$3" >>"$here/$1.$$"
    mv -f "$here/$1.$$" "$here/$1"
}

is_timeout() {
    case $1 in
    '' | *[!0-9]* | 0*) refuse "\`--timeout $1\` is no number of seconds" ;;
    esac
}

needs_kubectl() {
    command -v kubectl >/dev/null 2>&1 ||
        fail "kubectl is not installed" "https://kubernetes.io/docs/tasks/tools/ says how" 3
}

needs_context() {
    kubectl config get-contexts --output name | grep -Fqx -e "$1" ||
        refuse "your kubeconfig has no context \`$1\`; \`kubectl config get-contexts\` lists yours"
}

now() {
    date +%s
}

