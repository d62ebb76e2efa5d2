// Package machine says what figures are of.
package machine

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// Describe names the processors, the kernel, and the commands that write rules.
func Describe() string {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	cpu := "unknown processor"
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			cpu = strings.TrimSpace(value)
			break
		}
	}
	release, _, _ := strings.Cut(strings.TrimSpace(string(kernel)), "-")
	iptables, _, _ := strings.Cut(VersionOf("iptables"), " (")
	nft, _, _ := strings.Cut(VersionOf("nft"), " (")
	return fmt.Sprintf("%d x %s, Linux %s, %s, %s", runtime.NumCPU(), cpu, release, iptables, nft)
}

// KubeProxyVersion is the version of a kube-proxy, as v1.2.3.
func KubeProxyVersion(program string) string {
	return strings.TrimPrefix(VersionOf(program), "Kubernetes ")
}

// VersionOf is what a program says about its version; unknown if it does not.
func VersionOf(program string) string {
	out, err := exec.Command(program, "--version").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}
