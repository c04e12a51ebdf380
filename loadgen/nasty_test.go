package loadgen

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/nexuscore-labs/nexus/frame"
	"github.com/nexuscore-labs/nexus/loadgen/codec"
)

// nasty is a server of frames or RESP that does what a seed tells it: answer,
// drop, delay, close, garble, tear, join.
type nasty struct {
	net.Listener
	wg   sync.WaitGroup
	mu   sync.Mutex
	open []net.Conn
}

type mischief struct {
	name                            string
	drop, closing, garbage, foreign float64 // probability per request
	delayMax                        time.Duration
	bytewise, join                  bool
}

// timeout is short where requests run into it, and else longer than a crowded
// machine can delay an answer.
func (m mischief) timeout() time.Duration {
	if m.drop > 0 {
		return 50 * time.Millisecond
	}
	return 10 * time.Second
}

func startNasty(t *testing.T, network, protocol string, m mischief, seed uint64) *nasty {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	n := &nasty{Listener: l}
	n.wg.Go(func() {
		for k := uint64(0); ; k++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n.mu.Lock()
			n.open = append(n.open, c)
			n.mu.Unlock()
			random := rand.New(rand.NewPCG(seed, k))
			n.wg.Go(func() { serveNasty(c, protocol, m, random) })
		}
	})
	t.Cleanup(n.stop)
	return n
}

func (n *nasty) stop() {
	_ = n.Close()
	n.mu.Lock()
	for _, c := range n.open {
		_ = c.Close()
	}
	n.mu.Unlock()
	n.wg.Wait()
}

func serveNasty(c net.Conn, protocol string, m mischief, random *rand.Rand) {
	defer c.Close()
	var pending, out []byte
	chunk := make([]byte, 32<<10)
	for {
		n, err := c.Read(chunk)
		if err != nil {
			return
		}
		pending = append(pending, chunk[:n]...)
		for {
			answer, taken := nastyAnswer(pending, protocol)
			if taken == 0 {
				break
			}
			pending = pending[taken:]
			draw := random.Float64()
			switch {
			case draw < m.drop:
				continue
			case draw < m.drop+m.closing:
				_, _ = c.Write(append(out, answer[:len(answer)/2]...))
				return
			case draw < m.drop+m.closing+m.garbage:
				answer = []byte("\x00\xff garbage that is nothing at all")
			case draw < m.drop+m.closing+m.garbage+m.foreign:
				answer = frame.Append(nil, frame.Frame{Kind: frame.KindPing | frame.KindReply, ID: 1 << 60})
			}
			if m.delayMax > 0 {
				time.Sleep(time.Duration(random.Int64N(int64(m.delayMax))))
			}
			if m.join && random.IntN(3) > 0 { // two or more answers in one segment
				out = append(out, answer...)
				continue
			}
			if !writeNasty(c, append(out, answer...), m.bytewise) {
				return
			}
			out = nil
		}
		if !writeNasty(c, out, m.bytewise) {
			return
		}
		out = nil
	}
}

func writeNasty(c net.Conn, p []byte, bytewise bool) bool {
	step := max(len(p), 1)
	if bytewise {
		step = 1
	}
	for len(p) > 0 {
		n := min(step, len(p))
		if _, err := c.Write(p[:n]); err != nil {
			return false
		}
		p = p[n:]
	}
	return true
}

// nastyAnswer gives the right answer to the first whole request.
func nastyAnswer(src []byte, protocol string) ([]byte, int) {
	if protocol == "resp" {
		const request = "*1\r\n$4\r\nPING\r\n"
		if len(src) < len(request) {
			return nil, 0
		}
		return []byte("+PONG\r\n"), len(request)
	}
	f, n, err := frame.Parse(src)
	if err != nil || n == 0 {
		return nil, 0
	}
	f.Kind |= frame.KindReply
	return frame.Append(nil, f), n
}

var mischiefs = []mischief{
	{name: "none"},
	{name: "drop", drop: 0.02},
	{name: "close", closing: 0.01},
	{name: "garbage", garbage: 0.01},
	{name: "foreign", foreign: 0.01},
	{name: "delay", delayMax: 300 * time.Microsecond},
	{name: "bytewise", bytewise: true},
	{name: "join", join: true},
	{name: "all", drop: 0.005, closing: 0.005, garbage: 0.005, join: true, delayMax: 100 * time.Microsecond},
}

// Whatever a server does, every request has exactly one end, and every end is
// told to the source.
func TestAccountingHoldsWhateverTheServerDoes(t *testing.T) {
	for _, m := range mischiefs {
		for _, protocol := range []string{"frame", "resp"} {
			for _, arrival := range []string{"poisson", "closed"} {
				t.Run(fmt.Sprintf("%s/%s/%s", m.name, protocol, arrival), func(t *testing.T) {
					if protocol == "resp" && m.foreign > 0 {
						t.Skip("answers in order carry no id")
					}
					t.Parallel()
					network := []string{"tcp", "unix"}[len(m.name)%2]
					server := startNasty(t, network, protocol, m, 1)
					// Chance needs some requests to show. A crowded machine sends few
					// in a short window, so it grows.
					for window, enough := 200*time.Millisecond, uint64(500); ; window *= 3 {
						r, source := runAgainst(t, server.Addr(), protocol, arrival, window, m.timeout())
						checkAccounting(t, r)
						if source != nil {
							checkEnds(t, source)
						}
						if r.Sent >= enough || window > 5*time.Second {
							checkMischief(t, m, r)
							return
						}
					}
				})
			}
		}
	}
}

// checkEnds demands that the source was told how each request ended.
func checkEnds(t *testing.T, source *echoSource) {
	t.Helper()
	if stated, ended := source.totals.stated.Load(), source.totals.judged.Load()+source.totals.unanswered.Load(); stated != ended {
		t.Errorf("%d requests stated, %d ended", stated, ended)
	}
}

// runAgainst returns the source where it counts what it was told.
func runAgainst(t *testing.T, address net.Addr, protocol, arrival string, window, timeout time.Duration) (*Result, *echoSource) {
	t.Helper()
	var source Source
	echo := newEchoSource(24, 40)
	if source = echo; protocol == "resp" {
		source, echo = &fixedSource{op: Op{Kind: codec.RESPPing}, want: "PONG"}, nil
	}
	r, err := Run(t.Context(), Config{
		Target: Target{Network: address.Network(), Address: address.String()}, Codec: protocol, Arrival: arrival, RatePerS: 4000,
		Streams: 24, Connections: 6, InFlightMax: 8, Warmup: 20 * time.Millisecond, Duration: window,
		Timeout: timeout, Seed: 3, Source: source,
	})
	if err != nil {
		t.Fatal(err)
	}
	return r, echo
}

// checkMischief demands that what the server did shows where it belongs.
func checkMischief(t *testing.T, m mischief, r *Result) {
	t.Helper()
	if r.InFlight != 0 {
		t.Errorf("%d requests in flight after the drain", r.InFlight)
	}
	if r.Completed == 0 {
		t.Errorf("nothing completed: %+v", r)
	}
	kind := map[string]uint64{"drop": r.Timeouts, "close": r.Errors, "garbage": r.Wrong, "foreign": r.Wrong}
	if n, counted := kind[m.name]; counted && n == 0 {
		t.Errorf("%s left no trace: %+v", m.name, r)
	}
	if clean := m == (mischief{name: m.name, delayMax: m.delayMax, bytewise: m.bytewise, join: m.join}); clean && (r.Wrong+r.Errors > 0 || r.FirstWrong != "") {
		t.Errorf("%d wrong, %d errors from a server that answers right: %s %s", r.Wrong, r.Errors, r.FirstWrong, r.FirstError)
	}
	if m.garbage+m.foreign > 0 && (r.FirstWrong == "" || len(r.Invalid) == 0) {
		t.Errorf("a broken protocol leaves the result valid: %+v", r)
	}
}

func TestDeadServers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Target: Target{Network: "tcp", Address: address}, RatePerS: 100, Duration: time.Second, Connections: 3, Source: newEchoSource(3, 8)}
	if r, err := Run(t.Context(), cfg); err == nil || r != nil {
		t.Errorf("nobody listens, yet: %v", r)
	} else {
		t.Log(err)
	}
	cfg.Target = Target{Network: "unix", Address: filepath.Join(t.TempDir(), "absent")}
	if _, err := Run(t.Context(), cfg); err == nil {
		t.Error("no socket, yet no error")
	}
}

// A server that dies for good ends the run early, with its accounting.
func TestServerLost(t *testing.T) {
	server := startNasty(t, "tcp", "frame", mischief{}, 1)
	source := newEchoSource(4, 8)
	killed := make(chan struct{})
	r, err := Run(t.Context(), Config{
		Target: Target{Network: "tcp", Address: server.Addr().String()}, RatePerS: 2000, Duration: time.Minute, Connections: 4,
		Timeout: 100 * time.Millisecond, Source: source,
		OnTick: func(Tick) {
			select {
			case <-killed:
			default:
				close(killed)
				go server.stop()
			}
		},
	})
	if !errors.Is(err, ErrServerLost) || r == nil {
		t.Fatalf("result %+v, error %v", r, err)
	}
	checkAccounting(t, r)
	if r.Completed == 0 || r.Unsent == 0 || len(r.Invalid) == 0 || len(r.Timeline) == 0 {
		t.Errorf("%+v", r)
	}
}

// A server that comes back is used again: the run goes on.
func TestServerComesBack(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	listen := func() net.Listener {
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Error(err)
		}
		return l
	}
	serve := func(l net.Listener, until chan struct{}) {
		var wg sync.WaitGroup
		var open []net.Conn
		wg.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				open = append(open, c)
				wg.Go(func() { serveNasty(c, "frame", mischief{}, rand.New(rand.NewPCG(1, 1))) })
			}
		})
		<-until
		_ = l.Close()
		for _, c := range open {
			_ = c.Close()
		}
		wg.Wait()
	}
	first, second := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	l := listen()
	wg.Go(func() {
		serve(l, first)
		serve(listen(), second)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	ticks, recovered := 0, false
	r, err := Run(ctx, Config{
		Target: Target{Network: "unix", Address: path}, RatePerS: 2000, Duration: time.Minute, Connections: 4,
		Timeout: 100 * time.Millisecond, Source: newEchoSource(4, 8), InFlightMax: 4096,
		OnTick: func(tick Tick) {
			// The first two intervals are the first server's; the restart falls
			// into a later one, and those after it show the second's answers.
			if ticks++; ticks == 2 {
				close(first)
			}
			if ticks > 3 && tick.Completed > 0 {
				recovered = true
				cancel()
			}
		},
	})
	close(second)
	wg.Wait()
	if r == nil || !errors.Is(err, context.Canceled) {
		t.Fatalf("result %+v, error %v", r, err)
	}
	checkAccounting(t, r)
	if !recovered || r.FirstError == "" {
		t.Errorf("the run did not recover: %+v", r)
	}
}

func TestContextEndsARun(t *testing.T) {
	server := startNasty(t, "tcp", "frame", mischief{}, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	started := runtime.NumGoroutine()
	r, err := Run(ctx, Config{
		Target: Target{Network: "tcp", Address: server.Addr().String()}, RatePerS: 2000, Duration: time.Minute, Connections: 4,
		Source: newEchoSource(4, 8), OnTick: func(Tick) { cancel() },
	})
	if !errors.Is(err, context.Canceled) || r == nil {
		t.Fatalf("result %+v, error %v", r, err)
	}
	checkAccounting(t, r)
	if len(r.Invalid) == 0 {
		t.Error("a cancelled run is valid")
	}
	for range 100 { // the server's goroutines may still be seeing their connections end
		if runtime.NumGoroutine() <= started+8 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d goroutines before, %d after", started, runtime.NumGoroutine())
}
