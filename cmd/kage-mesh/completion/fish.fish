# fish completion for kage-mesh
function __kage_mesh_complete
    set -l words (commandline -opc)
    set -l cur (commandline -ct)
    if string match -q -- '-*' $cur
        set words $words $cur
    end
    command $words --generate-bash-completion 2>/dev/null
end
complete -c kage-mesh -f -a '(__kage_mesh_complete)'
