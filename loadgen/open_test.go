package loadgen

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nexuscore-labs/nexus/frame"
	"github.com/nexuscore-labs/nexus/loadgen/nullserver"
	"golang.org/x/sys/unix"
)

// startNull serves until the test ends.
func startNull(t testing.TB, network, protocol string) Target {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	s, err := nullserver.Start(nullserver.Config{Network: network, Address: address, Protocol: protocol, CPU: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return Target{Network: s.Network, Address: s.Address}
}

// Every transport, arrival process and codec: right answers, exact accounting,
// and as many requests as the rate says.
func TestOpenLoopOverEveryTransport(t *testing.T) {
	for _, c := range []struct{ network, codec, arrival string }{
		{"tcp", "frame", "constant"}, {"tcp", "frame", "poisson"}, {"tcp", "frame", "burst"},
		{"unix", "frame", "poisson"}, {"udp", "frame", "constant"},
		{"tcp", "http1", "poisson"}, {"unix", "resp", "burst"},
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			t.Parallel()
			const rate, seconds = 2000.0, 0.3
			timeout := 20 * time.Second // a crowded machine delays answers for long
			if c.network == "udp" {
				timeout = time.Second
			}
			r, err := Run(t.Context(), Config{
				Target: startNull(t, c.network, c.codec), Codec: c.codec, Arrival: c.arrival, RatePerS: rate, BurstLen: 10,
				Streams: 40, Connections: 10, Warmup: 50 * time.Millisecond, Duration: 300 * time.Millisecond,
				Timeout: timeout, Seed: 1, Source: sourceFor(c.codec, 40, 64),
			})
			if err != nil {
				t.Fatal(err)
			}
			checkAccounting(t, r)
			// A datagram may be lost where the machine is too busy to fetch it.
			if lost := r.Timeouts; r.Wrong+r.Errors > 0 || r.Completed == 0 || (lost > 0 && c.network != "udp") {
				t.Errorf("%+v", r)
			}
			if off := float64(r.Intended) - rate*seconds; off < -120 || off > 120 {
				t.Errorf("%d requests intended, %.0f asked for", r.Intended, rate*seconds)
			}
			for _, feature := range []string{"io_uring", "fixed_file"} {
				if !strings.Contains(strings.Join(r.Features, " "), feature) {
					t.Errorf("features %v lack %s", r.Features, feature)
				}
			}
		})
	}
}

// slowServer answers each frame after a delay, one at a time per connection,
// and notes the order of each stream's records.
func slowServer(t *testing.T, delay time.Duration) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serveInOrder(t, c, delay)
		}
	}()
	return l
}

func serveInOrder(t *testing.T, c net.Conn, delay time.Duration) {
	defer c.Close()
	next := map[uint64]uint64{}
	var pending []byte
	chunk := make([]byte, 4096)
	for {
		n, err := c.Read(chunk)
		if err != nil {
			return
		}
		for pending = append(pending, chunk[:n]...); ; {
			f, taken, err := frame.Parse(pending)
			if err != nil || taken == 0 {
				break
			}
			stream, record := binary.LittleEndian.Uint64(f.Body), binary.LittleEndian.Uint64(f.Body[8:])
			if record != next[stream] {
				t.Errorf("stream %d: record %d where %d was due", stream, record, next[stream])
			}
			next[stream] = record + 1
			time.Sleep(delay)
			f.Kind |= frame.KindReply
			if _, err := c.Write(frame.Append(nil, f)); err != nil {
				return
			}
			pending = pending[taken:]
		}
	}
}

// countingSource numbers each stream's records and watches how many are out.
type countingSource struct {
	next, ended []uint64
	outMax      uint64
	body        [16]byte
}

func newCountingSource(streams int) *countingSource {
	return &countingSource{next: make([]uint64, streams), ended: make([]uint64, streams)}
}

func (s *countingSource) Next(stream uint32, op *Op) {
	binary.LittleEndian.PutUint64(s.body[:], uint64(stream))
	binary.LittleEndian.PutUint64(s.body[8:], s.next[stream])
	op.Kind, op.Token, op.Body = uint8(frame.KindPing), s.next[stream], s.body[:]
	s.next[stream]++
	s.outMax = max(s.outMax, s.next[stream]-s.ended[stream])
}

func (s *countingSource) Check(stream uint32, token uint64, reply *Reply) Judgement {
	s.ended[stream]++
	if reply != nil && (len(reply.Body) != 16 || binary.LittleEndian.Uint64(reply.Body[8:]) != token) {
		return Wrong
	}
	return Right
}

// A server slower than the load: what waits is counted, keeps its order, and
// its latency counts from when it was meant to go.
func TestWhatWaitsIsCounted(t *testing.T) {
	server := slowServer(t, 2*time.Millisecond)
	source := newCountingSource(6)
	r, err := Run(t.Context(), Config{
		Target: Target{Network: "tcp", Address: server.Addr().String()}, RatePerS: 2000, Streams: 6, Connections: 2, InFlightMax: 2,
		Duration: 400 * time.Millisecond, Timeout: 20 * time.Second, Source: source,
	})
	if err != nil {
		t.Fatal(err)
	}
	checkAccounting(t, r)
	if r.Waited == 0 || r.Unsent == 0 || r.Completed == 0 {
		t.Fatalf("%+v", r)
	}
	if r.Intended != 800 {
		t.Errorf("%d intended, want 800", r.Intended)
	}
	if !strings.Contains(strings.Join(r.Invalid, "\n"), "rate:") {
		t.Errorf("the missed rate doesn't invalidate: %v", r.Invalid)
	}
	// At most 2 in flight of 2 ms each, so service is bounded by the server's
	// pace while the backlog grows all the time.
	if latency, service := r.Latency.ValueAtQuantile(90), r.Service.ValueAtQuantile(90); latency < 2*service {
		t.Errorf("p90 latency %d ns hides the wait: service is %d ns", latency, service)
	}
}

// A closed loop keeps one request per stream out, and says what it is.
func TestClosedLoop(t *testing.T) {
	server := slowServer(t, 200*time.Microsecond)
	var source *countingSource
	r := untilAnswered(t, 200*time.Millisecond, func(window time.Duration) *Result {
		source = newCountingSource(12)
		r, err := Run(t.Context(), Config{
			Target: Target{Network: "tcp", Address: server.Addr().String()}, Arrival: "closed", Streams: 12, Connections: 3,
			Duration: window, Source: source,
		})
		if err != nil {
			t.Fatal(err)
		}
		return r
	})
	if source.outMax != 1 || r.Completed == 0 {
		t.Errorf("%d requests of a stream out at once, %d completed", source.outMax, r.Completed)
	}
	if !strings.Contains(strings.Join(r.Features, " "), "closed_loop_hides_queueing") {
		t.Errorf("features %v don't name the closed loop", r.Features)
	}
}

// Workers share nothing: each has its part of the connections and streams.
func TestWorkers(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("needs two CPUs")
	}
	target := startNull(t, "unix", "frame")
	source := newEchoSource(30, 32)
	var ticks []Tick
	r, err := Run(t.Context(), Config{
		Target: target, Arrival: "poisson", RatePerS: 4000, Streams: 30, Connections: 5, CPUs: []int{0, 1},
		Duration: 350 * time.Millisecond, Source: source, Timeout: 20 * time.Second,
		OnTick: func(tick Tick) { ticks = append(ticks, tick) },
	})
	if err != nil {
		t.Fatal(err)
	}
	checkAccounting(t, r)
	// The seed fixes the arrivals, so every run intends as many.
	if alone := intendedAlone(t, target); r.Intended != alone {
		t.Errorf("two workers intend %d requests, one %d", r.Intended, alone)
	}
	if r.Completed == 0 || r.Completed != r.Sent {
		t.Errorf("%+v", r)
	}
	if len(ticks) == 0 || len(ticks) != len(r.Timeline) {
		t.Errorf("%d ticks, %d in the timeline", len(ticks), len(r.Timeline))
	}
	var sum uint64
	for _, tick := range r.Timeline {
		sum += tick.Completed
	}
	if sum != r.Completed {
		t.Errorf("ticks count %d of %d completed", sum, r.Completed)
	}
}

func intendedAlone(t *testing.T, target Target) uint64 {
	t.Helper()
	r, err := Run(t.Context(), Config{
		Target: target, Arrival: "poisson", RatePerS: 4000, Streams: 30, Connections: 5,
		Duration: 350 * time.Millisecond, Source: newEchoSource(30, 32), Timeout: 20 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	return r.Intended
}

// Ten times the requests must not allocate ten times: nothing is per request.
func TestNothingAllocatesPerRequest(t *testing.T) {
	target := startNull(t, "unix", "frame")
	measure := func(d time.Duration) (mallocs, requests uint64) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r, err := Run(t.Context(), Config{Target: target, Arrival: "closed", Streams: 64, Connections: 4, Duration: d, Source: newEchoSource(64, 16)})
		if err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		return after.Mallocs - before.Mallocs, r.Completed
	}
	measure(20 * time.Millisecond) // the server's buffers grow
	short, few := measure(30 * time.Millisecond)
	long, many := measure(300 * time.Millisecond)
	if many < few+1000 {
		t.Skipf("%d and %d requests: too busy a machine to tell", few, many)
	}
	if per := (float64(long) - float64(short)) / float64(many-few); per > 0.01 {
		t.Errorf("%.3f allocations per request", per)
	}
}

func TestBadConfigs(t *testing.T) {
	good := Config{Target: Target{Network: "tcp", Address: "127.0.0.1:1"}, RatePerS: 10, Duration: time.Second, Source: newEchoSource(1, 1)}
	for name, spoil := range map[string]func(*Config){
		"no source":        func(c *Config) { c.Source = nil },
		"no duration":      func(c *Config) { c.Duration = 0 },
		"no rate":          func(c *Config) { c.RatePerS = 0 },
		"unknown arrival":  func(c *Config) { c.Arrival = "uniform" },
		"unknown codec":    func(c *Config) { c.Codec = "grpc" },
		"burst of nothing": func(c *Config) { c.Arrival = "burst" },
		"public address":   func(c *Config) { c.Target.Address = "192.0.2.1:80" },
		"private, unasked": func(c *Config) { c.Target.Address = "10.0.0.1:80" },
		"outside subnet": func(c *Config) {
			c.Target.Address, c.Target.Allow = "10.0.0.1:80", netip.MustParsePrefix("10.1.0.0/16")
		},
		"public subnet": func(c *Config) {
			c.Target.Address, c.Target.Allow = "8.8.8.8:80", netip.MustParsePrefix("0.0.0.0/0")
		},
		"a name":             func(c *Config) { c.Target.Address = "localhost:80" },
		"no port":            func(c *Config) { c.Target.Address = "127.0.0.1:0" },
		"unknown network":    func(c *Config) { c.Target.Network = "sctp" },
		"long path":          func(c *Config) { c.Target = Target{Network: "unix", Address: strings.Repeat("x", 200)} },
		"http over udp":      func(c *Config) { c.Target.Network, c.Codec = "udp", "http1" },
		"too many in flight": func(c *Config) { c.InFlightMax = InFlightMaxMax + 1 },
		"too many streams":   func(c *Config) { c.Streams = StreamsMax + 1 },
		"idle workers":       func(c *Config) { c.CPUs = []int{0, 1} },
		"negative warm-up":   func(c *Config) { c.Warmup = -1 },
	} {
		c := good
		spoil(&c)
		if r, err := Run(t.Context(), c); !errors.Is(err, ErrConfig) || r != nil {
			t.Errorf("%s: result %v, error %v", name, r, err)
		}
	}
}

// Sockets can live in another network namespace.
func TestNetns(t *testing.T) {
	type made struct {
		path string
		l    net.Listener
		err  error
	}
	ready, end := make(chan made), make(chan struct{})
	go func() {
		runtime.LockOSThread() // the thread and its namespace end with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			ready <- made{err: err}
			return
		}
		err := loopbackUp()
		var l net.Listener
		if err == nil {
			l, err = net.Listen("tcp", "127.0.0.1:0")
		}
		ready <- made{fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), l, err}
		<-end
	}()
	ns := <-ready
	defer close(end)
	if ns.err != nil {
		t.Skipf("make a network namespace: %v", ns.err)
	}
	defer ns.l.Close()
	go func() {
		for {
			c, err := ns.l.Accept()
			if err != nil {
				return
			}
			go serveInOrder(t, c, 0)
		}
	}()
	cfg := Config{Target: Target{Network: "tcp", Address: ns.l.Addr().String(), Netns: ns.path}, RatePerS: 500}
	r := untilAnswered(t, 100*time.Millisecond, func(window time.Duration) *Result {
		cfg.Duration, cfg.Source = window, newCountingSource(1)
		r, err := Run(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		return r
	})
	if r.Intended != uint64(500*cfg.Duration.Seconds()) || r.Completed == 0 || r.Completed != r.Sent {
		t.Errorf("%+v", r)
	}
	cfg.Target.Netns = filepath.Join(t.TempDir(), "absent")
	if _, err := Run(t.Context(), cfg); err == nil {
		t.Error("an absent namespace was entered")
	}
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}

func TestFeatures(t *testing.T) {
	list, err := Features(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(list) < len(used) {
		t.Errorf("%d features", len(list))
	}
	for _, f := range list {
		if f.Used && !f.Supported || f.Detail == "" {
			t.Errorf("%+v", f)
		}
	}
}
