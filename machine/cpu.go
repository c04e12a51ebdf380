package machine

import (
	"io/fs"
	"runtime"
	"sort"
	"strconv"
	"strings"
)

// cpuModel reads /proc/cpuinfo: "model name" on x86, the implementer and part
// on arm64, which has no name there.
func cpuModel(root fs.FS) string {
	text, err := readText(root, "proc/cpuinfo")
	if err != nil {
		return notVisible
	}
	info := map[string]string{}
	for _, line := range strings.Split(text, "\n") {
		key, value, found := strings.Cut(line, ":")
		key = strings.TrimSpace(key)
		if _, seen := info[key]; found && !seen {
			info[key] = strings.TrimSpace(value)
		}
	}
	if name := info["model name"]; name != "" {
		return name
	}
	if part := info["CPU part"]; part != "" {
		return "implementer " + info["CPU implementer"] + " part " + part
	}
	return notVisible
}

// allowedCPUs reads Cpus_allowed_list of the calling thread,
// proc_pid_status(5), less what is offline. /proc/self would be the first
// thread, which PinThread may have pinned and the runtime can't throw away.
func allowedCPUs(root fs.FS, online []int) []int {
	text, err := readText(root, "proc/thread-self/status")
	if err != nil {
		text, err = readText(root, "proc/self/status")
	}
	if err != nil {
		return online
	}
	for _, line := range strings.Split(text, "\n") {
		list, found := strings.CutPrefix(line, "Cpus_allowed_list:")
		if !found {
			continue
		}
		allowed, err := parseCPUs(list)
		if err != nil || len(allowed) == 0 {
			return online
		}
		return intersect(allowed, online)
	}
	return online
}

// intersect returns the members of a that are in b; an empty b is unknown.
func intersect(a, b []int) []int {
	if len(b) == 0 {
		return a
	}
	in := map[int]bool{}
	for _, c := range b {
		in[c] = true
	}
	var both []int
	for _, c := range a {
		if in[c] {
			both = append(both, c)
		}
	}
	return both
}

// siblings groups the CPUs that share a core.
func siblings(root fs.FS, cpus []int) [][]int {
	var cores [][]int
	seen := map[int]bool{}
	for _, c := range cpus {
		if seen[c] {
			continue
		}
		name := "sys/devices/system/cpu/cpu" + strconv.Itoa(c) + "/topology/thread_siblings_list"
		core, err := parseCPUs(lineOr(root, name, strconv.Itoa(c)))
		if err != nil || len(core) == 0 {
			core = []int{c}
		}
		for _, s := range core {
			seen[s] = true
		}
		cores = append(cores, core)
	}
	return cores
}

// governor names the frequency governors of the CPUs. A guest usually sees none.
func governor(root fs.FS, cpus []int) string {
	names := map[string]bool{}
	for _, c := range cpus {
		g := lineOr(root, "sys/devices/system/cpu/cpu"+strconv.Itoa(c)+"/cpufreq/scaling_governor", "")
		if g != "" {
			names[g] = true
		}
	}
	if len(names) == 0 {
		return notVisible
	}
	list := make([]string, 0, len(names))
	for n := range names {
		list = append(list, n)
	}
	sort.Strings(list)
	return strings.Join(list, ",")
}

func memoryBytes(root fs.FS) int64 {
	text, err := readText(root, "proc/meminfo")
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(text, "\n") {
		rest, found := strings.CutPrefix(line, "MemTotal:")
		if !found {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
		if err != nil {
			return 0
		}
		return kib << 10
	}
	return 0
}

// virtualisation names the hypervisor and the container, joined by "+", as far
// as files show them; "none" on bare metal.
func virtualisation(root fs.FS) string {
	var layers []string
	if vm := hypervisor(root); vm != "" {
		layers = append(layers, vm)
	}
	if c := container(root); c != "" {
		layers = append(layers, c)
	}
	if len(layers) == 0 {
		return "none"
	}
	return strings.Join(layers, "+")
}

// emulatedMark is what QEMU calls a processor that is software.
const emulatedMark = "QEMU TCG"

// Emulated is the hypervisor of a machine whose processor is software: no speed
// that is measured there says anything of another machine.
const Emulated = "qemu-emulated"

// hypervisor asks the firmware tables first, then the paravirtual clocks that
// the kernel offers, then the CPU's hypervisor flag.
func hypervisor(root fs.FS) string {
	if kind := lineOr(root, "sys/hypervisor/type", ""); kind != "" {
		return kind
	}
	info, _ := readText(root, "proc/cpuinfo")
	if strings.Contains(info, emulatedMark) {
		return Emulated
	}
	clocks := lineOr(root, "sys/devices/system/clocksource/clocksource0/available_clocksource", "")
	vendor := lineOr(root, "sys/class/dmi/id/sys_vendor", "") + " " + lineOr(root, "sys/class/dmi/id/product_name", "")
	for _, known := range []struct{ text, mark, name string }{
		{vendor, "Amazon EC2", "amazon"}, {vendor, "QEMU", "qemu"}, {vendor, "VMware", "vmware"},
		{vendor, "VirtualBox", "virtualbox"}, {vendor, "Google", "google"}, {vendor, "Microsoft", "hyperv"},
		{vendor, "Xen", "xen"}, {clocks, "kvm-clock", "kvm"}, {clocks, "xen", "xen"}, {clocks, "hyperv", "hyperv"},
	} {
		if strings.Contains(known.text, known.mark) {
			return known.name
		}
	}
	if runtime.GOARCH == "amd64" || strings.Contains(info, "flags") {
		for _, line := range strings.Split(info, "\n") {
			if strings.HasPrefix(line, "flags") && strings.Contains(line+" ", " hypervisor ") {
				return "unnamed hypervisor"
			}
		}
	}
	if exists(root, "proc/device-tree/hypervisor/compatible") {
		return "unnamed hypervisor"
	}
	return ""
}

func container(root fs.FS) string {
	if exists(root, ".dockerenv") {
		return "docker"
	}
	if exists(root, "run/.containerenv") {
		return "podman"
	}
	version := lineOr(root, "proc/sys/kernel/osrelease", "")
	if strings.Contains(strings.ToLower(version), "microsoft") {
		return "wsl"
	}
	return lineOr(root, "run/systemd/container", "")
}
