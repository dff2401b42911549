# fish completion for kage-mesh
function __kage_mesh_complete
    set -l words (commandline -opc)
    set -l cur (commandline -ct)
    $words[1] __complete "=$cur" $words[2..] 2>/dev/null
end
complete -c kage-mesh -f -a '(__kage_mesh_complete)'
