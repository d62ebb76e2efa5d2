package privileges

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// container is one of the DaemonSet's, as containerd would have runc run it: the
// same capabilities, system calls, mounts and namespaces, on the network of a node.
type container struct {
	*corev1.Container
	pod     *corev1.PodSpec
	profile json.RawMessage   // of seccomp
	node    string            // the node's network namespace, as ip calls it
	volumes map[string]string // what stands for volumes, by name
	root    string            // its file system
	uid     int64
}

// without takes a capability from the container.
func (c *container) without(name corev1.Capability) {
	sc := c.SecurityContext.DeepCopy()
	sc.Capabilities.Add = slices.DeleteFunc(sc.Capabilities.Add, func(other corev1.Capability) bool { return other == name })
	c.SecurityContext = sc
}

// capabilities are what a runtime makes of the manifest, which drops all and adds some.
func (c *container) capabilities() []string {
	out := []string{}
	for _, name := range c.SecurityContext.Capabilities.Add {
		out = append(out, "CAP_"+string(name))
	}
	return out
}

type object map[string]any

// config is the container in the words of the OCI runtime specification. What the
// manifest does not say is as containerd's CRI plugin has it.
func (c *container) config() object {
	caps := c.capabilities()
	effective := caps
	if c.uid != 0 {
		effective = []string{} // another user's are only those that a file gives
	}
	return object{
		"ociVersion": "1.0.2",
		"process": object{
			"user": object{"uid": c.uid, "gid": c.uid}, "cwd": "/", "args": append([]string{"/svcproxy"}, c.Args...),
			"env": []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			// Neither inheritable nor ambient: containerd gives none since CVE-2022-24769.
			"capabilities":    object{"bounding": caps, "permitted": effective, "effective": effective},
			"noNewPrivileges": !*c.SecurityContext.AllowPrivilegeEscalation,
		},
		"root":   object{"path": c.root, "readonly": *c.SecurityContext.ReadOnlyRootFilesystem},
		"mounts": slices.Concat(c.fileSystems(), c.programs(), c.volumeMounts()),
		"linux": object{
			"cgroupsPath": "/" + c.node,
			"namespaces": []object{
				{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "network", "path": "/run/netns/" + c.node},
			},
			"seccomp": c.profile,
			"maskedPaths": []string{
				"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
				"/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
			},
			"readonlyPaths": []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
}

// fileSystems are those that every container has.
func (c *container) fileSystems() []object {
	return []object{
		{"destination": "/proc", "type": "proc", "source": "proc", "options": []string{"nosuid", "noexec", "nodev"}},
		{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": []string{"nosuid", "noexec", "nodev", "ro"}},
	}
}

// programs stand for the image: this machine's, which can be read alone.
func (c *container) programs() []object {
	out := []object{bind("/usr", "/usr", true), bind("/etc", "/etc", true)}
	for _, dir := range []string{"/bin", "/sbin", "/lib", "/lib64"} {
		info, err := os.Lstat(dir)
		if err == nil && info.Mode()&fs.ModeSymlink == 0 {
			out = append(out, bind(dir, dir, true))
		}
	}
	return out
}

func bind(from, to string, readOnly bool) object {
	options := []string{"rbind", "rprivate", "rw"}
	if readOnly {
		options[2] = "ro"
	}
	return object{"destination": to, "type": "bind", "source": from, "options": options}
}

// volumeMounts are those of the manifest, with what stands for each volume.
func (c *container) volumeMounts() []object {
	var out []object
	for _, m := range c.VolumeMounts {
		out = append(out, bind(c.volumes[m.Name], m.MountPath, m.ReadOnly))
	}
	return out
}

// newRoot makes the file system of a container: the program, and links that this
// machine has in the place of folders.
func newRoot(t *testing.T, program string) string {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"/bin", "/sbin", "/lib", "/lib64"} {
		if to, err := os.Readlink(dir); err == nil {
			check(t, os.Symlink(to, filepath.Join(root, dir)))
		}
	}
	text, err := os.ReadFile(program)
	check(t, err)
	check(t, os.WriteFile(filepath.Join(root, "svcproxy"), text, 0o755))
	return root
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// running is a container that was started.
type running struct {
	t   *testing.T
	cmd *exec.Cmd
	dir string
}

// start has runc run the container; it ends with the test.
func (c *container) start(t *testing.T) *running {
	t.Helper()
	r := &running{t: t, dir: t.TempDir()}
	text, err := json.Marshal(c.config())
	check(t, err)
	check(t, os.WriteFile(filepath.Join(r.dir, "config.json"), text, 0o600))
	log, err := os.Create(filepath.Join(r.dir, "log"))
	check(t, err)
	defer func() { _ = log.Close() }()
	r.cmd = r.runc("run", "--bundle", r.dir, "--pid-file", filepath.Join(r.dir, "pid"), c.node)
	r.cmd.Stdout, r.cmd.Stderr = log, log
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	check(t, r.cmd.Start())
	t.Cleanup(func() {
		_ = r.runc("delete", "--force", c.node).Run()
		_ = r.cmd.Wait()
		if t.Failed() {
			t.Logf("the container said:\n%s", r.said())
		}
	})
	return r
}

func (r *running) runc(args ...string) *exec.Cmd {
	return exec.Command("runc", append([]string{"--root", filepath.Join(r.dir, "state")}, args...)...)
}

// end waits for the container to end by itself and returns its exit status.
func (r *running) end() int {
	_ = r.cmd.Wait()
	return r.cmd.ProcessState.ExitCode()
}

func (r *running) said() string {
	text, _ := os.ReadFile(filepath.Join(r.dir, "log"))
	return string(text)
}

// pid is the number of the container's process on this machine.
func (r *running) pid() int {
	text, _ := os.ReadFile(filepath.Join(r.dir, "pid"))
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return pid
}

// status is a line of what the kernel says about the process, as CapEff.
func (r *running) status(key string) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.pid()))
	for line := range strings.Lines(string(text)) {
		if name, value, _ := strings.Cut(line, ":"); name == key {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
