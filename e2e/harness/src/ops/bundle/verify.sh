usage() {
    cat <<'USAGE'
Waits until {{ gateways_shown }} has sent its own messages and each is acknowledged by the far end, then shows every message
at the far end and the pods that it crossed. Exit code 1: messages are missing or took another way.

Usage: verify.sh [--cluster CLUSTER=CONTEXT]... [--save FILE] [--timeout SECONDS]

  --cluster CLUSTER=CONTEXT   the context of your kubeconfig that is CLUSTER; what the deploy scripts were given, unless given
  --save FILE                 writes the messages with their signed trails into FILE, one JSON object a line
  --timeout SECONDS           longest time for each wait; 600 unless given
  --help                      this text

The messages are read through `kubectl port-forward` by curl. Without curl only the acknowledgements are shown.
USAGE
}

contexts=''
save=''
{{ contexts_functions }}
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help)
        usage
        exit 0
        ;;
    --cluster | --save | --timeout)
        [ $# -ge 2 ] || refuse "\`$1\` needs a value"
        case $1 in
        --cluster) take_context "$2" ;;
        --save) save=$2 ;;
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
needs_kubectl

work=$(mktemp -d)
forward=''
end() {
    [ -z "$forward" ] || kill "$forward" 2>/dev/null || true
    rm -rf "$work"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
if [ -n "$save" ]; then
    : >"$save" || fail "\`$save\` cannot be written" "name another file" 2
fi

# Waits for the line by which a gateway says that each of its own messages is acknowledged.
await_messages() {
    context_of "$1"
    say "$1: wait until $2 has sent its $4 messages"
    deadline=$(($(now) + timeout))
    while :; do
        line=$(kubectl --context "$context" --namespace "$3" logs "deployment/$2" --container app 2>"$work/said" |
            grep -F 'Auto-trigger complete' | tail -n 1 || true)
        case $line in
        *" $4/$4 messages sent."*)
            printf '%s\n' "$line"
            return
            ;;
        ?*) fail "$2 in $1 has not delivered all of its messages: $line" \
            "\`kubectl --context $context --namespace $3 logs deployment/$2 --container app\` says which, and why" 1 ;;
        esac
        if [ "$(now)" -ge "$deadline" ]; then
            cat "$work/said" >&2
            kubectl --context "$context" --namespace "$3" get pods >&2 || true
            fail "$2 in $1 has not sent its messages after $timeout s" \
                "\`kubectl --context $context --namespace $3 logs deployment/$2 --container app\` says what it waits for" 1
        fi
        sleep 2
    done
}

# Opens a way to the output of a sink and reads it into $work/output.
read_output() {
    say "$1: read what $2 has stored"
    kubectl --context "$context" --namespace "$3" port-forward "statefulset/$2" :{{ http_port }} >"$work/forward" 2>&1 &
    forward=$!
    deadline=$(($(now) + 60))
    port=''
    while [ -z "$port" ]; do
        port=$(sed -n 's/^Forwarding from 127\.0\.0\.1:\([0-9]*\) -> .*/\1/p' "$work/forward" | head -n 1)
        [ -n "$port" ] && break
        if [ "$(now)" -ge "$deadline" ] || ! kill -0 "$forward" 2>/dev/null; then
            cat "$work/forward" >&2
            fail "there is no way to $2 in $1" "see what kubectl said above; your user needs the right to create pods/portforward" 3
        fi
        sleep 1
    done
    # The token goes by standard input, since others can read arguments, and to this machine only: no proxy of the
    # environment and no line of a ~/.curlrc (-q, which must come first) sends it elsewhere.
    kubectl --context "$context" --namespace "$3" get secret {{ pinhole_secret }} --output {{ token_template|sh }} |
        curl -q --noproxy '*' --silent --show-error --fail --max-time 60 --header @- --output "$work/output" "http://127.0.0.1:$port/output" ||
        fail "$2 in $1 does not give its messages" "see what was said above; after a change of its token, deploy it again" 3
    kill "$forward" 2>/dev/null || true
    wait "$forward" 2>/dev/null || true
    forward=''
}

# Each message as `ROUTE TAB SEQ ID WAY`: by cluster and namespace for the comparison, by the pods' own names for people.
read_trails() {
    awk '
        function field(text, name,    mark, at) {
            mark = "\"" name "\":\""
            at = index(text, mark)
            if (!at) return ""
            text = substr(text, at + length(mark))
            return substr(text, 1, index(text, "\"") - 1)
        }
        {
            seq = substr($0, index($0, "\"seq\":") + 6) + 0
            # The trail comes last; a payload before it may hold anything.
            rest = $0
            while ((at = index(rest, "\"trail\":[")) > 0) rest = substr(rest, at + 9)
            route = ""
            way = ""
            count = split(rest, hops, "},[{]")
            for (hop = 1; hop <= count; hop++) {
                route = route " " field(hops[hop], "cluster") "/" field(hops[hop], "namespace")
                way = way (hop > 1 ? " -> " : "") field(hops[hop], "pod") "@" field(hops[hop], "cluster")
            }
            printf "%s\t%6d  %s  %s\n", substr(route, 2), seq, field($0, "id"), way
        }
    ' "$work/output" >"$work/trails"
}

# At least so many messages must have come by a route.
expect_route() {
    found=$(cut -f 1 "$work/trails" | grep -Fcx -e "$1" || true)
    [ "$found" -ge "$2" ] || fail "$found messages came by the route $1, and $2 must have" \
        "a sink keeps the newest only, an ephemeral one those of its pod; \`kubectl rollout restart\` of the gateway's deployment sends new ones" 1
}

{% for gateway in gateways %}
await_messages {{ gateway.cluster|sh }} {{ gateway.name|sh }} {{ gateway.namespace|sh }} {{ gateway.count }}
{% endfor %}
if ! command -v curl >/dev/null 2>&1; then
    say "curl is not installed, so the trails cannot be shown; the far end has acknowledged the messages above"
    exit 0
fi
{% for sink in sinks %}

context_of {{ sink.cluster|sh }}
read_output {{ sink.cluster|sh }} {{ sink.name|sh }} {{ sink.namespace|sh }}
read_trails
[ -z "$save" ] || cat "$work/output" >>"$save"
printf '%s\n' {{ sink.heading|sh }}
cut -f 2 "$work/trails" | tail -n 20
{% for route in sink.routes %}
expect_route {{ route.text|sh }} {{ route.count }}
{% endfor %}
{% endfor %}
say "all messages have crossed"
