#!/bin/sh
# Stands for kubectl in the tests of a bundle's scripts: a folder, named by FAKE, is the clusters. Each call is written down.
set -eu
printf '%s\n' "$*" >>"$FAKE/calls"

context=''
namespace=''
while :; do
    case $1 in
    --context)
        context=$2
        shift 2
        ;;
    --namespace)
        namespace=$2
        shift 2
        ;;
    *) break ;;
    esac
done
cluster="$FAKE/$context"

# True as often as the number in a file says, which goes down by one each time.
not_yet() {
    [ -s "$1" ] || return 1
    left=$(cat "$1")
    [ "$left" -gt 0 ] || return 1
    echo $((left - 1)) >"$1"
}

case "$1 $2" in
'config get-contexts') cat "$FAKE/contexts" ;;
'get namespace')
    if [ -f "$cluster/$3" ]; then
        printf '%s=%s' "$3" "$(cat "$cluster/$3")"
    fi
    ;;
'apply --filename')
    manifest="$3/01-namespace.yaml"
    name=$(sed -n 's/^  name: //p' "$manifest")
    sed -n 's|^    ferry.internal/environment: ||p' "$manifest" >"$cluster/$name"
    cp "$3/05-peers.yaml" "$cluster/$name.peers"
    ;;
'rollout status')
    if not_yet "$FAKE/unready"; then
        echo "error: $3 exceeded its progress deadline" >&2
        exit 1
    fi
    ;;
'get service')
    not_yet "$FAKE/without-address" || cat "$FAKE/address"
    ;;
'logs deployment/'*) cat "$FAKE/log" ;;
'get secret') printf 'Authorization: Bearer token-of-%s\n' "$namespace" ;;
'port-forward deployment/'* | 'port-forward statefulset/'*)
    printf 'Forwarding from 127.0.0.1:%s -> 8000\n' "$(cat "$FAKE/port")"
    exec tail -f /dev/null
    ;;
'delete namespace') rm -f "$cluster/$3" ;;
'get deployment')
    if [ -f "$FAKE/earlier" ]; then
        echo "deployment.apps/$3"
    fi
    ;;
'get persistentvolumeclaim') printf '%s' "$(cat "$FAKE/claim" 2>/dev/null || echo Bound)" ;;
'get events')
    case $* in
    *PersistentVolumeClaim*) cat "$FAKE/claim-event" ;;
    esac
    ;;
'get pods' | 'describe service') ;;
*)
    echo "nobody knows: $*" >&2
    exit 1
    ;;
esac
