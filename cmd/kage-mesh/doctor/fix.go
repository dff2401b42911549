package doctor

import (
	"fmt"
	"strings"
)

// byOS picks the words for a system.
func byOS(os, linux, darwin, windows string) string {
	switch os {
	case "darwin":
		return darwin
	case "windows":
		return windows
	}
	return linux
}

func startOllama(os string) string {
	return byOS(os, "sudo systemctl start ollama   # or, without its service: ollama serve", "open -a Ollama   # or: ollama serve", `start "" "%LOCALAPPDATA%\Programs\Ollama\ollama app.exe"`)
}

func restartOllama(os string) string {
	return byOS(os, "sudo systemctl restart ollama", "osascript -e 'quit app \"Ollama\"'; open -a Ollama", `taskkill /IM "ollama app.exe" /F & start "" "%LOCALAPPDATA%\Programs\Ollama\ollama app.exe"`)
}

func updateOllama(os string) string {
	return byOS(os, "curl -fsSL https://ollama.com/install.sh | sh", "brew upgrade ollama   # or get the app again from https://ollama.com/download", "winget upgrade Ollama.Ollama")
}

func unexposeOllama(os string) string {
	return byOS(os,
		"sudo systemctl edit ollama   # remove the line with OLLAMA_HOST, then:\nsudo systemctl restart ollama",
		"launchctl unsetenv OLLAMA_HOST\n"+restartOllama("darwin"),
		"reg delete HKCU\\Environment /v OLLAMA_HOST /f\n"+restartOllama("windows"))
}

// startNode starts a node that was installed, or says how to run one.
func startNode(os string) string {
	return byOS(os, "sudo systemctl start kage-mesh   # or, without its service: kage-mesh join", "kage-mesh join   # or: sudo launchctl kickstart -k system/kage-mesh", "sc start kage-mesh   & rem or, without its service: kage-mesh join")
}

func restartNode(os string) string {
	return byOS(os, "sudo systemctl restart kage-mesh   # or run 'kage-mesh join' anew", "sudo launchctl kickstart -k system/kage-mesh   # or run 'kage-mesh join' anew", "sc stop kage-mesh & sc start kage-mesh   & rem or run 'kage-mesh join' anew")
}

func syncClock(os string) string {
	return byOS(os, "sudo timedatectl set-ntp true", "sudo sntp -sS time.apple.com", "w32tm /resync")
}

func whoHas(os, network, port string) string {
	return byOS(os, fmt.Sprintf("sudo ss -ln%sp 'sport = :%s'", network[:1], port), fmt.Sprintf("sudo lsof -nP -i%s:%s", strings.ToUpper(network), port), "netstat -ano | findstr :"+port)
}

func kill(os string, pid int) string {
	return byOS(os, fmt.Sprintf("kill %d", pid), fmt.Sprintf("kill %d", pid), fmt.Sprintf("taskkill /PID %d", pid))
}

// allow opens a port for what comes in, by this machine's own firewall.
func (f Facts) allow(network, port string) string {
	switch fw := f.Firewall; fw.Tool {
	case "ufw":
		return fmt.Sprintf("sudo ufw allow %s/%s", port, network)
	case "firewalld":
		return fmt.Sprintf("sudo firewall-cmd --permanent --add-port=%s/%s\nsudo firewall-cmd --reload", port, network)
	case "nftables":
		if fw.Chain != "" {
			return fmt.Sprintf("sudo nft insert rule %s %s dport %s accept", fw.Chain, network, port)
		}
	case "iptables":
		return fmt.Sprintf("sudo iptables -I INPUT -p %s --dport %s -j ACCEPT", network, port)
	}
	return allowOn(f.OS, network, port)
}

// allowOn opens a port on a machine of which only the system is known.
func allowOn(os, network, port string) string {
	return byOS(os,
		fmt.Sprintf("sudo ufw allow %s/%s   # or the like of another firewall: 'sudo nft list ruleset' shows it", port, network),
		"sudo /usr/libexec/ApplicationFirewall/socketfilterfw --add \"$(which kage-mesh)\" --unblockapp \"$(which kage-mesh)\"",
		fmt.Sprintf(`netsh advfirewall firewall add rule name="kage-mesh %s %s" dir=in action=allow protocol=%s localport=%s profile=private`, network, port, strings.ToUpper(network), port))
}
