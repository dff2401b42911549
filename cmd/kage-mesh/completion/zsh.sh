#compdef kage-mesh
# zsh completion for kage-mesh
_kage_mesh() {
  local -a offers
  offers=("${(@f)$("${words[1]}" __complete "=$PREFIX" "${(@)words[2,CURRENT-1]}" 2>/dev/null)}")
  if [[ -n $offers[1] ]]; then
    compadd -a offers
  else
    _files
  fi
}
if [[ $funcstack[1] == _kage_mesh ]]; then
  _kage_mesh
else
  compdef _kage_mesh kage-mesh
fi
