usage() {
    cat <<'USAGE'
Removes what the deploy scripts made: the namespaces {{ namespaces_shown }}, and nothing else.
The claims with what the sinks have stored go with them; `verify.sh --save FILE` keeps it.

Usage: teardown.sh [--cluster CLUSTER=CONTEXT]... [--timeout SECONDS]

  --cluster CLUSTER=CONTEXT   the context of your kubeconfig that is CLUSTER; what the deploy scripts were given, unless given
  --timeout SECONDS           longest time for each wait; 600 unless given
  --help                      this text
USAGE
}

{{ namespace_functions }}
contexts=''
{{ contexts_functions }}
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help)
        usage
        exit 0
        ;;
    --cluster | --timeout)
        [ $# -ge 2 ] || refuse "\`$1\` needs a value"
        case $1 in
        --cluster) take_context "$2" ;;
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
left_alone=''
# All of them first: what is forgotten goes on costing money.
{% for cluster in clusters %}
context_of {{ cluster|sh }}
{% endfor %}

# Has a namespace removed, where it is this bundle's. The Service goes with it, and so does its load balancer.
remove() {
    context_of "$1"
    seen=$(look_at_namespace "$context" "$2")
    case $seen in
    '') say "$1: \`$2\` is not there" ;;
    "$2=$environment")
        say "$1: remove \`$2\`"
        kubectl --context "$context" delete namespace "$2" --ignore-not-found --wait=false >&2 ||
            fail "\`$2\` in $1 cannot be removed" "see what kubectl said above, then run this script again" 3
        ;;
    *)
        say "$1: \`$2\` is not of this bundle and stays"
        left_alone=yes
        ;;
    esac
}

await_removal() {
    context_of "$1"
    seen=$(look_at_namespace "$context" "$2")
    if [ "$seen" = "$2=$environment" ]; then
        kubectl --context "$context" delete namespace "$2" --ignore-not-found --timeout "${timeout}s" >&2 ||
            fail "\`$2\` in $1 is still there after $timeout s" \
                "\`kubectl --context $context get namespace $2 --output yaml\` says what holds it; then run this script again" 3
    fi
}

# Those that send before those that they send to.
{% for pod in pods %}
remove {{ pod.cluster|sh }} {{ pod.namespace|sh }}
{% endfor %}
{% for pod in pods %}
await_removal {{ pod.cluster|sh }} {{ pod.namespace|sh }}
{% endfor %}
if [ -n "$left_alone" ]; then
    say "namespaces of others were left alone"
fi
rm -f "$here/addresses" "$here/contexts"
say "removed; addresses that you have reserved stay yours: \`cargo xtask addresses {{ target }} {{ blueprint }}\` shows how to release them"
