package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/nexuscore-labs/nexus/uring"
	"golang.org/x/sys/unix"
)

func TestKernelFindings(t *testing.T) {
	for release, want := range map[string]Status{"6.18.44": OK, "6.1.0": OK, "5.19.0": Warn, "5.15.0": Warn, "5.14.9": Absent, "4.19.0": Absent, "mystery": Warn} {
		if f := kernelVersion(release); f.Status != want {
			t.Errorf("kernel %s: %v, want %v", release, f.Status, want)
		}
	}
	for _, c := range []struct {
		err    error
		status Status
		fix    string
	}{{nil, OK, ""}, {unix.ENOENT, Absent, "bare metal"}, {unix.EACCES, Absent, "perf_event_paranoid"}, {unix.EPERM, Absent, "perf_event_paranoid"}} {
		if f := pmu(c.err); f.Status != c.status || !strings.Contains(f.Fix, c.fix) {
			t.Errorf("perf_event_open %v: %+v", c.err, f)
		}
	}
	if f := perfSoftware(unix.ENOSYS); f.Status != Absent {
		t.Errorf("%+v", f)
	}
}

func TestURingFindings(t *testing.T) {
	disabled := func(value string) fstest.MapFS {
		return fstest.MapFS{"proc/sys/kernel/io_uring_disabled": {Data: []byte(value + "\n")}}
	}
	for value, want := range map[string]string{"1": "run as root", "2": "sysctl kernel.io_uring_disabled=0", "0": "seccomp", "": "later"} {
		findings := uringFindings(disabled(value), nil, unix.EPERM)
		if len(findings) != 1 || findings[0].Status != Absent || !strings.Contains(findings[0].Fix, want) {
			t.Errorf("io_uring_disabled=%s: %+v", value, findings)
		}
	}
	support := &uring.Support{Ops: map[string]bool{}, Features: []uring.Feature{{Name: "buf_ring", Supported: true}, {Name: "multishot_recv", Detail: "EINVAL"}}}
	for _, op := range uringOps {
		support.Ops[op] = op != "msg_ring"
	}
	found := byID(uringFindings(fstest.MapFS{}, support, nil))
	if f := found["io_uring"]; f.Status != Warn || !strings.Contains(f.Title, "msg_ring") {
		t.Errorf("an operation is missing: %+v", f)
	}
	if f := found["io_uring.multishot_recv"]; f.Status != Absent || f.Costs == "" || f.Detail != "EINVAL" {
		t.Errorf("a feature is missing: %+v", f)
	}
	if found["io_uring.buf_ring"].Status != OK || found["io_uring.op.msg_ring"].Status != Absent || found["io_uring.op.fsync"].Status != OK {
		t.Errorf("%+v", found)
	}
}

// TestURingFeaturesAreExplained: a feature that uring comes to try needs its costs here.
func TestURingFeaturesAreExplained(t *testing.T) {
	support, err := uring.Probe()
	if err != nil {
		t.Skipf("io_uring can't be used: %v", err)
	}
	for _, f := range support.Features {
		if uringCosts[f.Name] == "" {
			t.Errorf("what the absence of %q costs is not written down in uringCosts", f.Name)
		}
	}
	for _, op := range uringOps {
		if _, known := support.Ops[op]; !known {
			t.Errorf("uring does not know the operation %q", op)
		}
	}
}

func TestLimits(t *testing.T) {
	for max, want := range map[uint64]Status{1024: Warn, 4096: OK, unix.RLIM_INFINITY: OK} {
		if f := filesLimit(unix.Rlimit{Cur: 10, Max: max}); f.Status != want {
			t.Errorf("open files %d: %+v", max, f)
		}
	}
	for _, c := range []struct {
		cur, caps uint64
		want      Status
	}{{8 << 20, 0, Warn}, {8 << 20, 1 << unix.CAP_IPC_LOCK, OK}, {unix.RLIM_INFINITY, 0, OK}, {64 << 20, 0, OK}} {
		if f := lockedLimit(unix.Rlimit{Cur: c.cur}, c.caps); f.Status != c.want {
			t.Errorf("%+v: %+v", c, f)
		}
	}
	root := fstest.MapFS{"proc/self/status": {Data: []byte("CapPrm:\tff\nCapEff:\t000001fffeffffff\n")}}
	if caps := effectiveCaps(root); caps != 0x1fffeffffff {
		t.Errorf("%x", caps)
	}
}

func TestServers(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := closed.Addr().String()
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{
		"POSTGRES_URL":  "postgres://user:hunter2@" + listener.Addr().String() + "/db",
		"REDIS_URL":     "redis://:hunter2@" + nobody,
		"KAFKA_BROKERS": nobody + ", " + listener.Addr().String(),
		"QDRANT_URL":    "http://user:hunter2@ho st:%zz",
	}
	findings := checkServers(context.Background(), host{options: DoctorOptions{Env: func(key string) string { return env[key] }}})
	found := byID(findings)
	for id, want := range map[string]Status{"server.postgres": OK, "server.redis": Absent, "server.kafka": OK, "server.qdrant": Absent, "server.s3": OK} {
		if found[id].Status != want {
			t.Errorf("%s: %+v, want %v", id, found[id], want)
		}
	}
	if text := fmt.Sprint(findings); strings.Contains(text, "hunter2") {
		t.Errorf("a password shows: %s", text)
	}
	if !found["server.s3"].Minor || found["server.redis"].Fix == "" {
		t.Errorf("%+v", found)
	}
}

func TestServerAddresses(t *testing.T) {
	for value, want := range map[string][]string{
		"localhost":                    {"localhost:9"},
		"localhost:1":                  {"localhost:1"},
		"http://h":                     {"h:80"},
		"https://h/x?y":                {"h:443"},
		"wss://h/rpc":                  {"h:443"},
		"redis://u:p@h/0":              {"h:9"},
		"a:1,b, tcp://c:3 ,":           {"a:1", "b:9", "c:3"},
		"http://[::1]:8080":            {"[::1]:8080"},
		"":                             nil,
		"http://":                      nil,
		strings.Repeat("h,", 17):       nil,
		"postgres://u:p%zz@h/database": nil,
	} {
		got, err := serverAddresses(value, "9")
		if !slices.Equal(got, want) || (want == nil) != (err != nil) {
			t.Errorf("%q: %v, %v; want %v", value, got, err, want)
		}
	}
}

func TestLeftoverFindings(t *testing.T) {
	if f := leftoverFindings(nil); len(f) != 1 || f[0].Status != OK {
		t.Errorf("%+v", f)
	}
	var many []Leftover
	for i := range 20 {
		many = append(many, Leftover{Kind: LeftoverTemp, Name: fmt.Sprint("/tmp/", i), PID: 7, Live: Dead})
	}
	found := byID(leftoverFindings(append(many, Leftover{PID: 9, Live: Live}, Leftover{PID: 9, Live: Live}, Leftover{PID: 8, Why: "odd"})))
	if f := found["leftovers"]; f.Status != Warn || f.Fix != "nexus clean" || !strings.Contains(f.Detail, "and 12 more") {
		t.Errorf("%+v", f)
	}
	if f := found["leftovers.live"]; !strings.HasSuffix(f.Title, "pid 9") {
		t.Errorf("%+v", f)
	}
	if f := found["leftovers.unknown"]; !strings.Contains(f.Detail, "odd") {
		t.Errorf("%+v", f)
	}
}

func TestVersionOf(t *testing.T) {
	settings := func(kv ...string) []debug.BuildSetting {
		var s []debug.BuildSetting
		for i := 0; i < len(kv); i += 2 {
			s = append(s, debug.BuildSetting{Key: kv[i], Value: kv[i+1]})
		}
		return s
	}
	for want, info := range map[string]*debug.BuildInfo{
		"v1.2.3":               {Main: debug.Module{Version: "v1.2.3"}},
		"0123456789ab":         {Main: debug.Module{Version: "(devel)"}, Settings: settings("vcs.revision", "0123456789abcdef")},
		"0123456789ab+changes": {Settings: settings("vcs.revision", "0123456789abcdef", "vcs.modified", "true")},
		"devel":                {},
	} {
		if got := versionOf(info); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

var sample = []Finding{
	{ID: "a", Group: "Kernel", Title: "kernel 6.18", Status: OK, Detail: "detail of a"},
	{ID: "b", Group: "Kernel", Title: "no hardware counters (PMU)", Status: Absent, Detail: "perf_event_open: ENOENT",
		Costs: "cycles, instructions, cache and TLB misses are reported as not measured; claims on them as not measurable here", Fix: "use bare metal, or a guest whose hypervisor passes the PMU on, however long this line is"},
	{ID: "c", Group: "CPU", Title: "2 CPUs", Status: Warn, Costs: "wider intervals"},
	{ID: "d", Group: "Kernel", Title: "BTF", Status: OK},
	{ID: "e", Group: "Servers", Title: "REDIS_URL not set", Status: OK, Minor: true},
}

const rendered = `✗ Kernel
  kernel 6.18 · BTF
  ✗ no hardware counters (PMU)
    perf_event_open: ENOENT
    costs cycles, instructions, cache and TLB
          misses are reported as not measured;
          claims on them as not measurable here
    fix   use bare metal, or a guest whose hypervisor passes the PMU on, however long this line is

! CPU
  ! 2 CPUs
    costs wider intervals

2 fine, 1 with a limit, 1 missing. A lab runs when its own needs are met: nexus list shows them.
`

func TestRenderFindings(t *testing.T) {
	var b strings.Builder
	if err := RenderFindings(&b, sample, RenderOptions{Width: 50}); err != nil {
		t.Fatal(err)
	}
	if b.String() != rendered {
		t.Errorf("got:\n%s\nwant:\n%s", b.String(), rendered)
	}
	if strings.Contains(b.String(), "\x1b") {
		t.Error("colour where none was asked for")
	}
	b.Reset()
	if err := RenderFindings(&b, sample, RenderOptions{Color: true, Verbose: true}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "\x1b[31m✗\x1b[0m") || !strings.Contains(b.String(), "detail of a") || !strings.Contains(b.String(), "REDIS_URL not set") {
		t.Errorf("got:\n%s", b.String())
	}
	b.Reset()
	if err := RenderFindings(&b, sample[:1], RenderOptions{}); err != nil || !strings.Contains(b.String(), "all 1 checks are fine") {
		t.Errorf("%v, got:\n%s", err, b.String())
	}
	if err := RenderFindings(failingWriter{}, sample, RenderOptions{}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a failing writer: %v", err)
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, os.ErrClosed }

func TestWantColor(t *testing.T) {
	file, err := os.Create(t.TempDir() + "/x")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if WantColor(file) {
		t.Error("a file wants colour")
	}
	terminal := openTerminal(t)
	for _, c := range []struct {
		noColor, term string
		want          bool
	}{{"", "xterm", true}, {"1", "xterm", false}, {"", "dumb", false}} {
		t.Setenv("NO_COLOR", c.noColor)
		t.Setenv("TERM", c.term)
		if got := WantColor(terminal); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// openTerminal makes a pseudo terminal, pts(4), and returns its far end.
func openTerminal(t *testing.T) *os.File {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo terminals: %v", err)
	}
	t.Cleanup(func() { _ = master.Close() }) // the test is over
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo terminals: %v", err)
	}
	t.Cleanup(func() { _ = slave.Close() }) // the test is over
	return slave
}

func TestWriteFindingsJSON(t *testing.T) {
	var b strings.Builder
	if err := WriteFindingsJSON(&b, sample); err != nil {
		t.Fatal(err)
	}
	var got struct {
		SchemaVersion int       `json:"schema_version"`
		Summary       Summary   `json:"summary"`
		Findings      []Finding `json:"findings"`
	}
	if err := json.Unmarshal([]byte(b.String()), &got); err != nil {
		t.Fatal(err)
	}
	if got.SchemaVersion != FindingsSchemaVersion || got.Summary != (Summary{OK: 2, Warn: 1, Missing: 1}) || !slices.Equal(got.Findings, sample) {
		t.Errorf("%+v", got)
	}
	b.Reset()
	if err := WriteFindingsJSON(&b, nil); err != nil || !strings.Contains(b.String(), `"findings": []`) {
		t.Errorf("%v: %s", err, b.String())
	}
}

func TestWrapText(t *testing.T) {
	for _, c := range []struct {
		text  string
		width int
		want  []string
	}{
		{"", 10, []string{""}},
		{"one two three", 7, []string{"one two", "three"}},
		{"longerthanwidth x", 5, []string{"longerthanwidth", "x"}},
		{"µs µs µs", 5, []string{"µs µs", "µs"}},
	} {
		if got := wrapText(c.text, c.width); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, want %q", c.text, got, c.want)
		}
	}
}
