package main

import (
	"fmt"
	"os/exec"
	"strings"
)

// mishap is something that somebody does to the rules.
type mishap struct {
	what  string
	args  string // of iptables
	input string // of iptables-restore, if there are no args: one transaction
	undo  string // arguments that take away what is not svcproxy's to remove; may be empty
}

const firewallJump = `FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL`

func mishaps() []mishap {
	return []mishap{
		{what: "flush of nat", args: "-t nat -F"},
		{what: "a chain emptied", args: "-t nat -F KUBE-SERVICES"},
		{what: "a rule deleted", args: "-t nat -D KUBE-POSTROUTING 1"},
		{what: "a rule inserted", args: "-t nat -I KUBE-SERVICES -d 192.0.2.1 -j RETURN"},
		{what: "a rule replaced", args: "-t nat -R KUBE-POSTROUTING 1 -d 192.0.2.1 -j RETURN"},
		{what: "a jump removed", args: "-t nat -D PREROUTING 1"},
		{what: "a jump moved behind a DROP", undo: "-D FORWARD -j DROP",
			input: "*filter\n-A FORWARD -j DROP\n-D " + firewallJump + "\n-A " + firewallJump + "\nCOMMIT\n"},
	}
}

// happen does it, on a backend, in the network namespace of the thread.
func (m *mishap) happen(backend string) error {
	if m.args != "" {
		return iptables(backend, m.args)
	}
	cmd := exec.Command("iptables-"+backend+"-restore", "-w", "5", "--noflush")
	cmd.Stdin = strings.NewReader(m.input)
	return say(cmd)
}

// clean takes away what is left of it.
func (m *mishap) clean(backend string) error {
	if m.undo == "" {
		return nil
	}
	return iptables(backend, m.undo)
}

func iptables(backend, args string) error {
	return say(exec.Command("iptables-"+backend, append([]string{"-w", "5"}, strings.Fields(args)...)...))
}

func say(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}
