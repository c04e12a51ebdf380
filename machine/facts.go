package machine

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"
)

// Environment is the machine's fingerprint. It has the fields of
// reports.Environment in the same order, so that one converts to the other.
type Environment struct {
	Hostname     string
	Kernel       string
	Arch         string
	CPUModel     string
	CPUs         int
	MemoryBytes  int64
	Filesystem   string
	Disk         string
	Governor     string
	Virtual      string
	GoVersion    string
	NexusVersion string
	CPUPlan      map[string][]int
	Tools        map[string]string
	// GeneratorCeilings is filled by who calibrates the generator.
	GeneratorCeilings map[string]float64
}

// Facts is what can be read of the machine without probing it.
type Facts struct {
	Hostname     string
	Kernel       string
	Arch         string
	Distro       string // PRETTY_NAME of os-release(5)
	CPUModel     string
	CPUsOnline   []int
	CPUsAllowed  []int // of the calling process; a container may have fewer
	Siblings     [][]int
	MemoryBytes  int64
	Governor     string // one name, several joined by ",", or "not visible"
	ClockSource  string
	ClockSources string // that the kernel offers, separated by spaces
	Virtual      string // kvm, kvm+docker, none, ...
	Storage      Storage
}

// notVisible is what the kernel does not show, as opposed to what is not there.
const notVisible = "not visible"

// Version is the version of this binary when the build says so with
// -ldflags "-X github.com/nexuscore-labs/nexus/machine.Version=v1.2.3".
var Version string

// Inspect reads the facts of this machine; dir is the folder that a run writes to.
func Inspect(dir string) (Facts, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return Facts{}, fmt.Errorf("inspect %s: %w", dir, err)
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		abs = real
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return Facts{}, fmt.Errorf("uname: %w", err)
	}
	facts := inspectTree(hostRoot(), abs)
	facts.Kernel = unix.ByteSliceToString(uts.Release[:])
	facts.Hostname = unix.ByteSliceToString(uts.Nodename[:])
	return facts, nil
}

// inspectTree reads the facts that files hold. What cannot be read stays empty
// or notVisible: an unreadable file must not stop a run.
func inspectTree(root fs.FS, dir string) Facts {
	online, _ := parseCPUs(lineOr(root, "sys/devices/system/cpu/online", ""))
	facts := Facts{
		Hostname:     lineOr(root, "proc/sys/kernel/hostname", ""),
		Kernel:       lineOr(root, "proc/sys/kernel/osrelease", ""),
		Arch:         runtime.GOARCH,
		Distro:       readOSRelease(root)["PRETTY_NAME"],
		CPUModel:     cpuModel(root),
		CPUsOnline:   online,
		CPUsAllowed:  allowedCPUs(root, online),
		Siblings:     siblings(root, online),
		MemoryBytes:  memoryBytes(root),
		Governor:     governor(root, online),
		ClockSource:  lineOr(root, clockSourceFile, notVisible),
		ClockSources: lineOr(root, "sys/devices/system/clocksource/clocksource0/available_clocksource", ""),
		Virtual:      virtualisation(root),
	}
	if mounts, err := readMounts(root); err == nil {
		facts.Storage = storageOf(root, mounts, dir)
	}
	return facts
}

// Environment reduces the facts to the fingerprint that a result carries.
func (f Facts) Environment() Environment {
	return Environment{
		Hostname:     f.Hostname,
		Kernel:       f.Kernel,
		Arch:         f.Arch,
		CPUModel:     f.CPUModel,
		CPUs:         len(f.CPUsAllowed),
		MemoryBytes:  f.MemoryBytes,
		Filesystem:   f.Storage.describeFilesystem(),
		Disk:         f.Storage.describeDisk(),
		Governor:     f.Governor,
		Virtual:      f.Virtual,
		GoVersion:    runtime.Version(),
		NexusVersion: nexusVersion(),
		CPUPlan:      map[string][]int{},
		Tools:        map[string]string{},
	}
}

// Fingerprint inspects the machine and asks the tools on PATH for their
// versions, each within two seconds. dir is the folder that the run writes to.
func Fingerprint(ctx context.Context, dir string) (Environment, error) {
	facts, err := Inspect(dir)
	if err != nil {
		return Environment{}, err
	}
	env := facts.Environment()
	env.Tools = toolVersions(ctx, locateTools(hostRoot(), os.Getenv("PATH")))
	return env, nil
}

// nexusVersion prefers what the build set, then the module version, then the
// commit that the Go tool stamped.
func nexusVersion() string {
	if Version != "" {
		return Version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return versionOf(info)
}

func versionOf(info *debug.BuildInfo) string {
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	revision := settings["vcs.revision"]
	if len(revision) > 12 {
		revision = revision[:12]
	}
	if revision != "" && settings["vcs.modified"] == "true" {
		revision += "+changes"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	if revision != "" {
		return revision
	}
	return "devel"
}

// readOSRelease reads /etc/os-release, os-release(5).
func readOSRelease(root fs.FS) map[string]string {
	text, err := readText(root, "etc/os-release")
	if err != nil {
		text, _ = readText(root, "usr/lib/os-release")
	}
	values := map[string]string{}
	for _, line := range strings.Split(text, "\n") {
		key, value, found := strings.Cut(strings.TrimSpace(line), "=")
		if found && !strings.HasPrefix(key, "#") {
			values[key] = strings.Trim(value, `"'`)
		}
	}
	return values
}
