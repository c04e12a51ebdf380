package machine

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	groupKernel = "Kernel"

	// io_uring reached linked durable writes with registered files in 5.x;
	// 5.15 is the oldest long-term kernel on which day 7 has what it needs,
	// 6.1 the oldest with multishot receive and provided buffer rings.
	kernelMajorMin, kernelMinorMin         = 5, 15
	kernelMajorComfort, kernelMinorComfort = 6, 1
	kernelConfigBytesMax                   = 4 << 20
	helpVM                                 = "run on a distribution kernel of 6.1 or later; in a container, ask the host"
	costsNoBTF                             = "no kernel-side measurement at all: every BPF probe here is CO-RE and needs the kernel's types"
	fixMountTrace, fixMountBPF             = "sudo mount -t tracefs nodev /sys/kernel/tracing", "sudo mount -t bpf bpffs /sys/fs/bpf"
	costsTracefs                           = "classic tracepoints and uprobes by event id can't attach; tp_btf and raw tracepoints, which day 7 prefers, don't need it"
	costsBPFFS                             = "maps can't be pinned: labs that hand a map to another process or survive a reload need it; day 7 pins nothing"
)

func checkKernel(_ context.Context, h host) []Finding {
	mounts, _ := readMounts(h.root)
	return []Finding{
		kernelVersion(h.facts.Kernel),
		kernelConfig(h.root, h.facts.Kernel),
		btf(h.root),
		pmu(perfOpen(unix.PERF_TYPE_HARDWARE, unix.PERF_COUNT_HW_CPU_CYCLES)),
		perfSoftware(perfOpen(unix.PERF_TYPE_SOFTWARE, unix.PERF_COUNT_SW_TASK_CLOCK)),
		mounted(mounts, "tracefs", costsTracefs, fixMountTrace),
		mounted(mounts, "bpf", costsBPFFS, fixMountBPF),
	}
}

func kernelVersion(release string) Finding {
	f := Finding{ID: "kernel.version", Group: groupKernel, Title: "kernel " + release, Status: OK}
	major, minor, err := parseKernel(release)
	switch {
	case err != nil:
		f.Status, f.Detail = Warn, err.Error()
		f.Costs = "can't tell which features to expect; each is probed all the same"
	case older(major, minor, kernelMajorMin, kernelMinorMin):
		f.Status, f.Title = Absent, f.Title+" is too old"
		f.Detail = fmt.Sprintf("%d.%d or later is needed", kernelMajorMin, kernelMinorMin)
		f.Costs, f.Fix = "io_uring and BPF as the labs use them are not there: no lab runs", helpVM
	case older(major, minor, kernelMajorComfort, kernelMinorComfort):
		f.Status = Warn
		f.Detail = fmt.Sprintf("before %d.%d: no provided buffer rings with multishot receive", kernelMajorComfort, kernelMinorComfort)
		f.Costs, f.Fix = "the generator falls back to single receives and reaches a lower rate", helpVM
	}
	return f
}

func older(major, minor, wantMajor, wantMinor int) bool {
	return major < wantMajor || (major == wantMajor && minor < wantMinor)
}

// parseKernel reads the first two numbers of a release such as 6.1.0-18-amd64.
func parseKernel(release string) (major, minor int, err error) {
	parts := strings.SplitN(release, ".", 3)
	if len(parts) < 2 {
		return 0, 0, fmt.Errorf("kernel release %q has no minor number", release)
	}
	digits := parts[1]
	if end := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
		digits = digits[:end]
	}
	if major, err = strconv.Atoi(parts[0]); err != nil {
		return 0, 0, fmt.Errorf("kernel release %q: %w", release, err)
	}
	if minor, err = strconv.Atoi(digits); err != nil {
		return 0, 0, fmt.Errorf("kernel release %q: %w", release, err)
	}
	return major, minor, nil
}

// configWanted are the build options that labs or probes lean on.
var configWanted = []struct{ option, costs string }{
	{"CONFIG_BPF_SYSCALL", "no kernel-side measurement"},
	{"CONFIG_BPF_JIT", "probes run interpreted and cost several times more"},
	{"CONFIG_DEBUG_INFO_BTF", "no CO-RE: no kernel-side measurement"},
	{"CONFIG_CGROUPS", "no attribution of events to a contender"},
	{"CONFIG_CGROUP_BPF", "BPF programs can't attach to a cgroup"},
	{"CONFIG_IO_URING", "no generator and no day 7 subject"},
	{"CONFIG_PERF_EVENTS", "no perf counters"},
	{"CONFIG_FTRACE_SYSCALLS", "no per-call tracepoints: system calls are told apart in the raw ones"},
	{"CONFIG_KPROBES", "probes of functions without a tracepoint (inode lock wait) are not measured where fentry is refused too"},
	{"CONFIG_UPROBES", "functions of a contender's own binary can't be probed"},
	{"CONFIG_NET_NS", "labs with their own network can't run"},
}

func kernelConfig(root fs.FS, release string) Finding {
	f := Finding{ID: "kernel.config", Group: groupKernel, Title: "kernel configuration", Status: OK}
	options, source, err := readKernelConfig(root, release)
	if err != nil {
		f.Status, f.Title = Warn, "kernel configuration not readable"
		f.Detail = "neither /proc/config.gz nor /boot/config-" + release + " can be read"
		f.Costs = "a refused probe can't be explained by the build option; each feature is probed all the same"
		return f
	}
	var unset, costs []string
	for _, want := range configWanted {
		if v := options[want.option]; v != "y" && v != "m" {
			unset = append(unset, want.option)
			costs = append(costs, want.option+": "+want.costs)
		}
	}
	f.Detail = "all wanted options are set in " + source
	if len(unset) > 0 {
		f.Status, f.Title = Warn, "kernel built without "+strings.Join(unset, ", ")
		f.Detail, f.Costs, f.Fix = "read in "+source, strings.Join(costs, "; "), helpVM
	}
	return f
}

// readKernelConfig returns the options that are set and the file they stand in.
func readKernelConfig(root fs.FS, release string) (map[string]string, string, error) {
	if f, err := root.Open("proc/config.gz"); err == nil {
		defer f.Close()
		unzipped, err := gzip.NewReader(f)
		if err != nil {
			return nil, "", fmt.Errorf("unzip /proc/config.gz: %w", err)
		}
		data, err := io.ReadAll(io.LimitReader(unzipped, kernelConfigBytesMax))
		if err != nil {
			return nil, "", fmt.Errorf("unzip /proc/config.gz: %w", err)
		}
		return parseKernelConfig(string(data)), "/proc/config.gz", nil
	}
	name := "boot/config-" + release
	text, err := readText(root, name)
	if err != nil {
		return nil, "", err
	}
	return parseKernelConfig(text), "/" + name, nil
}

func parseKernelConfig(text string) map[string]string {
	options := map[string]string{}
	for _, line := range strings.Split(text, "\n") {
		if key, value, found := strings.Cut(line, "="); found && strings.HasPrefix(key, "CONFIG_") {
			options[key] = value
		}
	}
	return options
}

func btf(root fs.FS) Finding {
	f := Finding{ID: "btf", Group: groupKernel, Title: "kernel type information (BTF)", Status: OK}
	info, err := fs.Stat(root, "sys/kernel/btf/vmlinux")
	if err != nil || info.Size() == 0 {
		f.Status, f.Title, f.Detail = Absent, "no kernel type information (BTF)", "/sys/kernel/btf/vmlinux is not there"
		f.Costs, f.Fix = costsNoBTF, "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y (every current distribution's is)"
		return f
	}
	f.Detail = "/sys/kernel/btf/vmlinux, " + formatBytes(info.Size())
	return f
}

// perfOpen opens one counter of the calling thread, perf_event_open(2), and
// closes it again. User space only: perf_event_paranoid 2 allows that.
func perfOpen(kind uint32, config uint64) error {
	attr := unix.PerfEventAttr{Type: kind, Config: config, Bits: unix.PerfBitDisabled | unix.PerfBitExcludeKernel | unix.PerfBitExcludeHv}
	attr.Size = uint32(unix.PERF_ATTR_SIZE_VER1)
	fd, err := unix.PerfEventOpen(&attr, 0, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func pmu(err error) Finding {
	f := Finding{ID: "pmu", Group: groupKernel, Title: "hardware counters (PMU)", Status: OK}
	if err == nil {
		return f
	}
	f.Status, f.Title = Absent, "no hardware counters (PMU)"
	f.Detail = "perf_event_open(cycles): " + err.Error()
	f.Costs = "cycles, instructions, cache and TLB misses are reported as not measured; claims on them as not measurable here"
	f.Fix = "use bare metal, or a guest whose hypervisor passes the PMU on"
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		f.Title, f.Fix = "hardware counters (PMU) are forbidden", "sudo sysctl kernel.perf_event_paranoid=1"
	}
	return f
}

func perfSoftware(err error) Finding {
	f := Finding{ID: "perf.software", Group: groupKernel, Title: "software perf events", Status: OK}
	if err != nil {
		f.Status, f.Detail = Absent, "perf_event_open(task-clock): "+err.Error()
		f.Costs = "task clock, page faults, migrations and switches per contender are reported as not measured"
		f.Fix = "sudo sysctl kernel.perf_event_paranoid=1"
	}
	return f
}

func mounted(mounts []Mount, kind, costs, fix string) Finding {
	id := kind
	if kind == "bpf" {
		id = "bpffs"
	}
	f := Finding{ID: id, Group: groupKernel, Title: id + " mounted", Status: OK}
	m, found := mountOfType(mounts, kind)
	if !found {
		f.Status, f.Title = Absent, id+" not mounted"
		f.Costs, f.Fix = costs, fix
		return f
	}
	f.Detail = m.Point
	return f
}
