
take_context() {
    case $1 in
{% for cluster in clusters %}
    {{ cluster|sh }}=?*) ;;
{% endfor %}
    *) refuse "\`--cluster $1\` is not CLUSTER=CONTEXT with one of {{ clusters_shown }}" ;;
    esac
    contexts="$contexts
$1"
}

# The context of a cluster: given, or what its deploy script was given.
context_of() {
    context=$(value_of "$1" "$contexts")
    [ -n "$context" ] || context=$(recorded contexts "$1")
    [ -n "$context" ] || refuse "which cluster is $1? \`--cluster $1=CONTEXT\` is missing"
    needs_context "$context"
}

