//go:build linux

package lab

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// namePrefix begins the name of every namespace of every lab, followed by the
// process id.
const namePrefix = "kagelab-"

// plan is what a lab is made of: names, addresses and the commands that build
// it. All of it is a function of these values.
type plan struct {
	prefix         string
	hosts          int
	noIPv4, noIPv6 bool
	second         []int // hosts with an eth1
}

// owner is the process that made a namespace.
func owner(namespace string) (pid int, ok bool) {
	rest, ok := strings.CutPrefix(namespace, namePrefix)
	if !ok {
		return 0, false
	}
	digits, _, _ := strings.Cut(rest, "-")
	pid, err := strconv.Atoi(digits)
	return pid, err == nil && pid > 1
}

func (p plan) switchName() string    { return p.prefix + "switch" }
func (p plan) nodeName(i int) string { return p.prefix + "n" + strconv.Itoa(i) }
func port(i int) string              { return "p" + strconv.Itoa(i) }
func tapPort(i int) string           { return "t" + strconv.Itoa(i) }
func secondPort(i int) string        { return "s" + strconv.Itoa(i) }
func addr6(i int) netip.Addr         { return lan(netip.MustParseAddr("fd77::"), i) }
func addrSecond(i int) netip.Addr    { return lan(netip.MustParseAddr("10.78.0.0"), i) }
func addr4(i int) netip.Addr         { return lan(netip.MustParseAddr("10.77.0.0"), i) }
func (p plan) hasSecond(i int) bool  { return slices.Contains(p.second, i) }
func (p plan) mainAddr(i int) netip.Addr {
	if p.noIPv4 {
		return addr6(i)
	}
	return addr4(i)
}

// lan is the address of node i in a LAN: the base plus i, and for the guest
// x.y.255.254 or ::fffe.
func lan(base netip.Addr, i int) netip.Addr {
	if i == 0 {
		i = 0xfffe
	}
	b := base.AsSlice()
	b[len(b)-2], b[len(b)-1] = byte(i>>8), byte(i)
	a, _ := netip.AddrFromSlice(b)
	return a
}

func (p plan) nodeNames() []string {
	names := make([]string, p.hosts+1)
	for i := range names {
		names[i] = p.nodeName(i)
	}
	return names
}

// switchCommands build the bridge and one cable to every node, in the
// namespace of the switch. Snooping is off, as on the cheap switches of most
// homes; forward_delay 0 lets a port forward at once.
func (p plan) switchCommands() []string {
	cmds := bridgeCommands(bridge)
	if len(p.second) > 0 {
		cmds = append(cmds, bridgeCommands(secondBridge)...)
	}
	for i := range p.hosts + 1 {
		cmds = append(cmds, cable(port(i), "eth0", p.nodeName(i), bridge)...)
		if p.hasSecond(i) {
			cmds = append(cmds, cable(secondPort(i), "eth1", p.nodeName(i), secondBridge)...)
		}
	}
	return cmds
}

func bridgeCommands(name string) []string {
	return []string{
		"link add " + name + " type bridge mcast_snooping 0 forward_delay 0 stp_state 0",
		"link set " + name + " up",
	}
}

func cable(port, nic, namespace, bridge string) []string {
	return []string{
		fmt.Sprintf("link add %s type veth peer name %s netns %s", port, nic, namespace),
		fmt.Sprintf("link set %s master %s up", port, bridge),
	}
}

// nodeCommands bring up the interfaces in node i's namespace.
func (p plan) nodeCommands(i int) []string {
	cmds := []string{"link set lo up", "link set eth0 up"}
	if !p.noIPv4 {
		cmds = append(cmds, fmt.Sprintf("addr add %s/16 brd + dev eth0", addr4(i)))
	}
	if !p.noIPv6 {
		cmds = append(cmds, fmt.Sprintf("addr add %s/64 dev eth0 nodad", addr6(i)))
	}
	if i != 0 { // as at home: libraries find the main interface by its default route
		if !p.noIPv4 {
			cmds = append(cmds, fmt.Sprintf("route add default via %s dev eth0", addr4(0)))
		}
		if !p.noIPv6 {
			cmds = append(cmds, fmt.Sprintf("route add default via %s dev eth0", addr6(0)))
		}
	}
	if p.hasSecond(i) {
		cmds = append(cmds, "link set eth1 up", fmt.Sprintf("addr add %s/16 brd + dev eth1", addrSecond(i)))
	}
	return cmds
}

// sysctls are set before the interfaces come up, under /proc/sys/net.
// Duplicate address detection would keep link-local addresses unusable for
// their first second.
func (p plan) sysctls(i int) map[string]string {
	s := map[string]string{}
	for _, nic := range []string{"default", "eth0", "eth1"} {
		if nic == "eth1" && !p.hasSecond(i) {
			continue
		}
		s["ipv6/conf/"+nic+"/accept_dad"] = "0"
		if p.noIPv6 {
			s["ipv6/conf/"+nic+"/disable_ipv6"] = "1"
		}
	}
	if i == 0 { // the way to an internet that is not there: unreachable at once instead of silence
		s["ipv4/ip_forward"] = "1"
		s["ipv6/conf/all/forwarding"] = "1"
	}
	return s
}

// switchSysctls keep the switch a switch: it has no addresses and answers
// nobody.
var switchSysctls = map[string]string{
	"ipv6/conf/all/disable_ipv6":     "1",
	"ipv6/conf/default/disable_ipv6": "1",
}
