# qtctl for bash; load it with: eval "$(qtctl completion bash)"
_qtctl() {
    mapfile -t COMPREPLY < <(
        command qtctl completion bash "${COMP_LINE:0:COMP_POINT}" "$COMP_WORDBREAKS" 2>/dev/null
    )
    if [[ ${COMPREPLY[0]-} == : ]]; then
        COMPREPLY=()
        compopt -o default
    fi
}
complete -F _qtctl qtctl
