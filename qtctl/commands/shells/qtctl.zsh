#compdef qtctl
# qtctl for zsh; load it behind compinit with: eval "$(qtctl completion zsh)"
_qtctl() {
    local line tab=$'\t'
    local -a lines texts shown
    lines=("${(@f)$(command qtctl completion zsh "${(@Q)words[1,CURRENT]}" 2>/dev/null)}")
    if [[ $lines[1] == : ]]; then
        _files
        return
    fi
    for line in $lines; do
        texts+=("${line%%$tab*}")
        if [[ $line == *$tab?* ]]; then
            shown+=("${line%%$tab*}  -- ${line#*$tab}")
        else
            shown+=("${line%%$tab*}")
        fi
    done
    (( $#texts )) && compadd -l -d shown -a -- texts
}
if [[ $funcstack[1] == _qtctl ]]; then
    _qtctl "$@"
else
    compdef _qtctl qtctl
fi
