
# The label of the namespaces of this bundle: those of others are never touched.
environment={{ environment|sh }}
label='ferry\.internal/environment'

# What a namespace is: nothing where there is none, else its name and the label, as NAME=LABEL.
look_at_namespace() {
    kubectl --context "$1" get namespace "$2" --ignore-not-found \
        --output "jsonpath={.metadata.name}={.metadata.labels.$label}" ||
        fail "the cluster of context \`$1\` does not answer as it should" "see what kubectl said above" 3
}
