# PowerShell completion for kage-mesh
Register-ArgumentCompleter -Native -CommandName kage-mesh -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $words = @($commandAst.CommandElements | ForEach-Object { $_.ToString() })
    $arguments = @($words | Select-Object -Skip 1)
    if ($wordToComplete -and -not $wordToComplete.StartsWith('-') -and $arguments.Count -gt 0) {
        $arguments = @($arguments | Select-Object -SkipLast 1)
    }
    & $words[0] @arguments --generate-bash-completion 2>$null |
        Where-Object { $_ -like "$wordToComplete*" } |
        ForEach-Object { [System.Management.Automation.CompletionResult]::new($_, $_, 'ParameterValue', $_) }
}
