usage() {
    cat <<'USAGE'
Deploys {{ cluster }}: {{ pods_shown }}. Done again, it brings what is there up to date.

Usage: deploy-{{ cluster }}.sh --cluster CONTEXT{% if peers %} [--address ADDRESS]{% endif %} [--timeout SECONDS]

  --cluster CONTEXT   the context of your kubeconfig that is {{ cluster }}
{% for peer in peers %}
  --address {{ peer.option }}
                      where {{ peer.pod }} in {{ peer.cluster }} is: an IP address or a host name, without a port.
                      Unless given{% if peer.known %}, {{ peer.known }}{% else %}, what deploy-{{ peer.cluster }}.sh has recorded in the file `addresses`{% endif %}

{% endfor %}
  --timeout SECONDS   longest time for each wait; 600 unless given
  --help              this text
USAGE
}

{{ namespace_functions }}
context=''
{% if peers %}
# Addresses that were given, as lines CLUSTER/POD=HOST.
given=''

give() {
    # An IPv6 address may be in brackets, as it is with a port.
    case $2 in
    \[*:*\])
        address=${2#?}
        set -- "$1" "${address%?}"
        ;;
    esac
    case $2 in
    '' | -* | *[!A-Za-z0-9.:-]*) refuse "\`--address $2\` is neither an IP address nor a host name" ;;
    esac
    given="$given
$1=$2"
}

# What an address is for: CLUSTER/POD=HOST, or less where that says enough.
take_address() {
    case $1 in
{% for peer in peers %}
    {{ peer.key|sh }}=*{% if peer.alone_there %} | {{ peer.cluster|sh }}=*{% endif %}) give {{ peer.key|sh }} "${1#*=}" ;;
{% endfor %}
    *=*) refuse "\`--address $1\` is for no pod that {{ cluster }} sends to" ;;
{% if only_peer %}
    *) give {{ only_peer|sh }} "$1" ;;
{% else %}
    *) refuse "\`--address $1\` must say whose it is: CLUSTER/POD=HOST" ;;
{% endif %}
    esac
}

# The address of a pod that another sends to: given, known when the bundle was written, or recorded.
address_of() {
    address=$(value_of "$1" "$given")
    [ -n "$address" ] || address=$3
    [ -n "$address" ] || address=$(recorded addresses "$1")
    [ -n "$address" ] || fail "where $1 is, is not known, and $2 sends to it" \
        "deploy-${1%%/*}.sh finds it out and records it: run that first; or say it, by \`--address $1=HOST\`" 2
}
{% endif %}

while [ $# -gt 0 ]; do
    case $1 in
    -h | --help)
        usage
        exit 0
        ;;
    --cluster{% if peers %} | --address{% endif %} | --timeout)
        [ $# -ge 2 ] || refuse "\`$1\` needs a value"
        case $1 in
        --cluster) context=$2 ;;
{% if peers %}
        --address) take_address "$2" ;;
{% endif %}
        --timeout)
            is_timeout "$2"
            timeout=$2
            ;;
        esac
        shift 2
        ;;
    *) refuse "\`$1\` is not known" ;;
    esac
done
[ -n "$context" ] || refuse "which cluster is {{ cluster }}? \`--cluster CONTEXT\` is missing"
needs_kubectl
needs_context "$context"

# A namespace of that name which this bundle has not made stays as it is.
is_ours() {
    seen=$(look_at_namespace "$context" "$1")
    case $seen in
    '' | "$1=$environment") ;;
    *) fail "namespace \`$1\` is there already, and another deployment or somebody else made it" \
        "look at it with \`kubectl --context $context get namespace $1 --show-labels\`; nothing of it was changed" 3 ;;
    esac
}

apply() {
    say "{{ cluster }}: apply $1/"
    kubectl --context "$context" apply --filename "$here/$1" >&2 ||
        fail "{{ cluster }} did not take all of \`$1/\`" "see what kubectl said above; what is there stays, and this script may be run again" 3
}

# What a pod that runs says itself that it waits for, where there is curl to ask it.
show_account() {
    command -v curl >/dev/null 2>&1 || return 0
    account=$(mktemp)
    kubectl --context "$context" --namespace "$2" port-forward "$3/$1" :{{ http_port }} >"$account" 2>&1 &
    forward=$!
    port=''
    patience=10
    while [ -z "$port" ] && [ "$patience" -gt 0 ]; do
        sleep 1
        patience=$((patience - 1))
        port=$(sed -n 's/^Forwarding from 127\.0\.0\.1:\([0-9]*\) -> .*/\1/p' "$account" | head -n 1)
    done
    [ -z "$port" ] || curl -q --noproxy '*' --silent --max-time 5 "http://127.0.0.1:$port/ready" >&2 || true
    kill "$forward" 2>/dev/null || true
    wait "$forward" 2>/dev/null || true
    rm -f "$account"
}

{% if stores %}
# What a sink of an earlier bundle has stored ends with its pod, and nothing moves it from there.
must_not_lose() {
    earlier=$(kubectl --context "$context" --namespace "$2" get deployment "$1" --ignore-not-found --output name)
    [ -z "$earlier" ] || fail "$1 in {{ cluster }} is a Deployment of an earlier bundle: its messages, nobody has counted them, end with its pod" \
        "read them at its /output, or give them up: \`kubectl --context $context --namespace $2 delete deployment $1\`; then run this script again" 3
}

# Says why a claim has no volume yet, and ends where none can come.
look_at_claim() {
    claim="{{ data_volume }}-$1-0"
    phase=$(kubectl --context "$context" --namespace "$2" get persistentvolumeclaim "$claim" \
        --ignore-not-found --output 'jsonpath={.status.phase}')
    [ "$phase" = Pending ] || return 0
    why=$(kubectl --context "$context" --namespace "$2" get events --sort-by .lastTimestamp \
        --field-selector "involvedObject.kind=PersistentVolumeClaim,involvedObject.name=$claim" \
        --output 'jsonpath={range .items[*]}{.reason}: {.message}{"\n"}{end}' | tail -n 1)
    case $why in
    FailedBinding:* | *storageclass*'not found'*)
        fail "the claim $claim of $1 in {{ cluster }} gets no volume: $why" \
            "\`kubectl --context $context get storageclass\` lists what the cluster has: give the blueprint \`storage: {class: …}\` of it, or \`storage: {ephemeral: true}\`; then \`kubectl --context $context --namespace $2 delete statefulset/$1 persistentvolumeclaim/$claim\`, and deploy the bundle written again" 3
        ;;
    esac
    say "{{ cluster }}: the claim $claim of $1 waits for a volume: $why"
}

{% endif %}
# How many seconds to wait before the claim of a pod is looked at again, which a Deployment's has none of.
patience_of() {
    if [ "$1" = statefulset ] && [ "$2" -gt 20 ]; then
        echo 20
    else
        echo "$2"
    fi
}

# Waits until a pod is ready. A Deployment's own deadline may pass before a load balancer of a cloud answers: go on then.
await_ready() {
    say "{{ cluster }}: wait until $1 is ready"
    deadline=$(($(now) + timeout))
    left=$timeout
    until kubectl --context "$context" --namespace "$2" rollout status "$3/$1" --timeout "$(patience_of "$3" "$left")s" >&2; do
{% if stores %}
        [ "$3" != statefulset ] || look_at_claim "$1" "$2"
{% endif %}
        left=$((deadline - $(now)))
        if [ "$left" -le 0 ]; then
            kubectl --context "$context" --namespace "$2" get pods >&2 || true
            kubectl --context "$context" --namespace "$2" get events --sort-by .lastTimestamp 2>/dev/null | tail -n 5 >&2 || true
            kubectl --context "$context" --namespace "$2" logs "$3/$1" --container app --tail 5 >&2 || true
            show_account "$1" "$2" "$3"
            fail "$1 in {{ cluster }} is not ready after $timeout s" \
                "see above what it waits for; \`kubectl --context $context --namespace $2 describe pods\` tells more. Then run this script again" 3
        fi
        sleep 2
    done
}

{% if awaits %}
# Waits until the load balancer of a Service has an address, IP address or host name, and records it. $3 is what was asked
# for, $4 where others dial whatever comes; both may be empty.
await_address() {
    say "{{ cluster }}: wait for the address of $1"
    deadline=$(($(now) + timeout))
    came=''
    while [ -z "$came" ]; do
        came=$(kubectl --context "$context" --namespace "$2" get service "$1" \
            --output 'jsonpath={range .status.loadBalancer.ingress[*]}{.ip}{" "}{.hostname}{"\n"}{end}' |
            tr ' ' '\n' | sed -n '/./{p;q;}')
        if [ -z "$came" ]; then
            if [ "$(now)" -ge "$deadline" ]; then
                kubectl --context "$context" --namespace "$2" describe service "$1" >&2 || true
                fail "the load balancer of $1 in {{ cluster }} has no address after $timeout s" \
                    "see above what the cluster says of it, then run this script again" 3
            fi
            sleep 2
        fi
    done
    record addresses "{{ cluster }}/$1" "$came"
    if [ -n "$3" ] && [ "$3" != "$came" ]; then
        fail "the load balancer of $1 in {{ cluster }} got $came, not $3, which was asked for" \
            "\`kubectl --context $context --namespace $2 describe service $1\` shows why" 3
    fi
    if [ -n "$4" ] && [ "$4" != "$came" ]; then
        say "{{ cluster }}: the load balancer of $1 is $came; others dial $4, as this bundle was told"
    else
        say "{{ cluster }}: $1 is at $came, which is recorded in \`addresses\`"
    fi
}

{% endif %}
{% if peers %}
# Puts the address that was found in the place of KEY in the manifest that is being made.
fill() {
    sed "s|@$1@|$address|g" "$filled" >"$filled.$$"
    mv -f "$filled.$$" "$filled"
}

{% endif %}
{% for pod in pods %}
is_ours {{ pod.namespace|sh }}
{% endfor %}
{% for pod in pods %}

# {{ pod.name }}
{% if pod.peers %}
{% for peer in pod.peers %}
address_of {{ peer.key|sh }} {{ pod.name|sh }} {{ peer.known|sh }}
{% endfor %}
filled="$here/"{{ pod.name|sh }}/{{ peers_file }}.new
cp "$here/"{{ pod.name|sh }}/{{ peers_template }} "$filled"
{% for peer in pod.peers %}
address_of {{ peer.key|sh }} {{ pod.name|sh }} {{ peer.known|sh }}
fill {{ peer.key|sh }}
{% endfor %}
mv -f "$filled" "$here/"{{ pod.name|sh }}/{{ peers_file }}
{% endif %}
{% if pod.stores %}
must_not_lose {{ pod.name|sh }} {{ pod.namespace|sh }}
{% endif %}
record contexts {{ cluster|sh }} "$context"
apply {{ pod.name|sh }}
await_ready {{ pod.name|sh }} {{ pod.namespace|sh }} {{ pod.controller }}
{% if pod.awaited %}
await_address {{ pod.name|sh }} {{ pod.namespace|sh }} {{ pod.asked|sh }} {{ pod.known|sh }}
{% endif %}
{% endfor %}

say "{{ cluster }}: done; next {{ next }}"
