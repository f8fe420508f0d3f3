# qtctl for fish; load it with: qtctl completion fish | source
function __qtctl_complete
    set -l lines (command qtctl completion fish (commandline -opc) (commandline -ct) 2>/dev/null)
    if test "$lines[1]" = :
        __fish_complete_path (commandline -ct)
    else
        string join \n -- $lines
    end
end
complete -c qtctl -f -a '(__qtctl_complete)'
