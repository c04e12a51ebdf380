package machine

import (
	"context"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	groupLimits = "Limits"

	// openFilesMin lets the widest sweep (1000 streams over as many
	// connections, a file per tenant in the naive baseline) run with room.
	openFilesMin = 4096
	// lockedBytesMin holds the rings and registered buffers of one run where
	// CAP_IPC_LOCK does not lift the limit.
	lockedBytesMin = 64 << 20
)

func checkLimits(_ context.Context, h host) []Finding {
	var files, locked unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return []Finding{limitUnknown("limits.nofile", err)}
	}
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &locked); err != nil {
		return []Finding{limitUnknown("limits.memlock", err)}
	}
	return []Finding{filesLimit(files), lockedLimit(locked, effectiveCaps(h.root))}
}

func limitUnknown(id string, err error) Finding {
	return Finding{ID: id, Group: groupLimits, Title: id + " unknown", Status: Warn, Detail: err.Error(), Costs: "a run may stop at a limit that wasn't seen"}
}

// filesLimit judges the hard limit: the Go runtime raises the soft one to it.
func filesLimit(l unix.Rlimit) Finding {
	f := Finding{ID: "limits.nofile", Group: groupLimits, Title: "open files " + formatLimit(l.Max, false), Status: OK}
	if l.Max < openFilesMin {
		f.Status, f.Detail = Warn, fmt.Sprintf("%d are enough for every lab", openFilesMin)
		f.Costs = "wide sweeps and the file-per-tenant baseline stop with too many open files"
		f.Fix = fmt.Sprintf("ulimit -n %d   (container: docker run --ulimit nofile=%d)", openFilesMin, openFilesMin)
	}
	return f
}

func lockedLimit(l unix.Rlimit, caps uint64) Finding {
	f := Finding{ID: "limits.memlock", Group: groupLimits, Title: "locked memory " + formatLimit(l.Cur, true), Status: OK}
	switch {
	case caps&(1<<unix.CAP_IPC_LOCK) != 0:
		f.Detail = "CAP_IPC_LOCK lifts it"
	case l.Cur < lockedBytesMin:
		f.Status, f.Detail = Warn, "no CAP_IPC_LOCK"
		f.Costs = "registered buffers of io_uring may be refused (ENOMEM)"
		f.Fix = "run as root, or ulimit -l 65536   (container: docker run --ulimit memlock=-1)"
	}
	return f
}

func formatLimit(n uint64, bytes bool) string {
	switch {
	case n == unix.RLIM_INFINITY:
		return "unlimited"
	case bytes:
		return formatBytes(int64(n))
	default:
		return strconv.FormatUint(n, 10)
	}
}

// effectiveCaps reads CapEff, capabilities(7).
func effectiveCaps(root fs.FS) uint64 {
	text, err := readText(root, "proc/self/status")
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(text, "\n") {
		if hex, found := strings.CutPrefix(line, "CapEff:"); found {
			caps, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
			if err != nil {
				return 0
			}
			return caps
		}
	}
	return 0
}
