package loadgen

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nexuscore-labs/nexus/loadgen/codec"
	"github.com/nexuscore-labs/nexus/loadgen/ring"
	"github.com/nexuscore-labs/nexus/loadgen/schedule"
	"github.com/nexuscore-labs/nexus/uring"
	"golang.org/x/sys/unix"
)

// Bounds of Config.
const (
	StreamsMax     = 1 << 20
	InFlightMaxMax = 1 << 16
	slotsMax       = 1 << 22 // of all connections; some 300 MB
	WorkersMax     = 256
	TimeoutMax     = time.Hour
)

// ErrConfig marks what is wrong with a Config.
var ErrConfig = errors.New("load generator configuration")

// ErrNotRight is wrapped by those who drive a server that must answer rightly
// and find that it did not.
var ErrNotRight = errors.New("the server did not answer rightly")

// Run drives one trial and returns what it measured. It connects everything
// before the clock starts; the error then names what could not be reached. An
// error after that (ErrServerLost, a source's impossible request, the
// context's end) comes with the Result so far, whose accounting holds. A
// Result with reasons in Invalid must not be used as a measurement.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	cfg, address, err := cfg.check()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	workers := max(len(cfg.CPUs), 1)
	r := &runner{cfg: cfg, address: address, ready: make(chan error, workers), start: make(chan int64), collector: newCollector(workers, cfg.OnTick)}
	stopWatching := context.AfterFunc(ctx, func() { r.stop.Store(true) })
	defer stopWatching()
	for range workers {
		r.workers = append(r.workers, &worker{stop: &r.stop, rec: newRecorder(r.collector.reports, newPaceRecorder(cfg.Warmup, cfg.Duration)), closed: cfg.Arrival == "closed", pinned: len(cfg.CPUs) > 0})
	}
	var wg sync.WaitGroup
	for i, w := range r.workers {
		wg.Go(func() { r.work(ctx, i, w) })
	}
	for range workers {
		err = errors.Join(err, <-r.ready)
	}
	if err != nil {
		close(r.start)
		wg.Wait()
		return nil, err
	}
	defer holdCollection()()
	clock := wallClock()
	startNs := uring.Now() + int64(2*time.Millisecond)
	r.collector.startNs = startNs + int64(cfg.Warmup)
	go r.collector.run()
	for range workers {
		r.start <- startNs
	}
	forgo := r.announce(r.collector.startNs)
	wg.Wait()
	forgo()
	close(r.collector.reports)
	<-r.collector.done
	return r.result(wallClock() - clock), errors.Join(r.err(), context.Cause(ctx))
}

type runner struct {
	cfg       Config
	address   ring.Address
	workers   []*worker
	errs      []error
	mu        sync.Mutex // guards errs
	ready     chan error
	start     chan int64 // closed without a time: give up
	stop      atomic.Bool
	collector *collector
}

func (r *runner) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errs = append(r.errs, err)
	r.stop.Store(true)
}

func (r *runner) err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(r.errs...)
}

// work is one worker's life on its own thread, which ends with it: affinity,
// namespace and timer slack need no undoing.
func (r *runner) work(ctx context.Context, i int, w *worker) {
	runtime.LockOSThread()
	if err := r.prepareThread(i, w); err != nil {
		r.ready <- err
		return
	}
	if err := r.build(i, w); err != nil {
		r.ready <- err
		return
	}
	err := w.connectAll(ctx)
	r.ready <- err
	startNs, ok := <-r.start
	if ok && err == nil {
		w.startNs = startNs
		w.measureNs = startNs + int64(r.cfg.Warmup)
		w.endNs = w.measureNs + int64(r.cfg.Duration)
		if err := w.run(); err != nil {
			r.fail(err)
		}
	}
	if err := w.set.Close(); err != nil {
		r.fail(fmt.Errorf("close the sockets: %w", err))
	}
}

// prepareThread pins the thread and puts it before others, moves it into the
// target's namespace, and lets its timers be punctual (the kernel may delay them
// 50 µs by default).
func (r *runner) prepareThread(i int, w *worker) error {
	if len(r.cfg.CPUs) > 0 {
		var set unix.CPUSet
		set.Set(r.cfg.CPUs[i])
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return fmt.Errorf("pin worker %d to CPU %d: %w", i, r.cfg.CPUs[i], err)
		}
		if !r.cfg.SharedCPUs {
			w.ordinary = r.cfg.Ordinary
			w.raise()
		}
	}
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set the timer slack: %w", err)
	}
	if r.cfg.Target.Netns == "" {
		return nil
	}
	fd, err := unix.Open(r.cfg.Target.Netns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", r.cfg.Target.Netns, err)
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", r.cfg.Target.Netns, err)
	}
	return nil
}

// build gives worker i its connections (every workers-th), their streams and
// schedules.
func (r *runner) build(i int, w *worker) error {
	cfg, workers := r.cfg, len(r.workers)
	var mine []int
	for c := i; c < cfg.Connections; c += workers {
		mine = append(mine, c)
	}
	var err error
	if w.codec, err = codec.New(cfg.Codec, cfg.Target.host(), cfg.Target.Network == "udp"); err != nil {
		return err
	}
	w.ordered = w.codec.Ordered()
	w.source = cfg.Source
	if f, ok := cfg.Source.(Forker); ok {
		w.source = f.Fork(i, workers)
	}
	w.timeoutNs = int64(cfg.Timeout)
	w.datagram = r.address.Datagram()
	w.conns = make([]conn, len(mine))
	w.tracer.entries = make([]Traced, 0, cfg.TraceMax/workers)
	for k, number := range mine {
		c := &w.conns[k]
		c.id = k
		c.init(cfg.InFlightMax)
		if cfg.TraceMax > 0 {
			c.trace = &connTrace{ends: make([]uint64, cfg.InFlightMax)}
		}
		c.streamFirst, c.streamStep = uint32(number), uint32(cfg.Connections)
		c.streamCount = uint32((cfg.Streams - number + cfg.Connections - 1) / cfg.Connections)
		if w.closed {
			c.ready = make([]waiting, c.streamCount)
			continue
		}
		part := schedule.Part{Index: number, Count: cfg.Connections}
		if c.schedule, err = schedule.New(cfg.Arrival, cfg.RatePerS, cfg.BurstLen, cfg.Seed, part); err != nil {
			return err
		}
		if cfg.Arrival == "poisson" {
			c.random = rand.New(rand.NewPCG(cfg.Seed^0x73747265616d, uint64(number)))
		}
	}
	w.due = make(due, 0, len(mine))
	if !w.closed {
		w.rec.departures = newDepartures(&cfg, len(mine))
	}
	w.set, err = ring.New(ring.Options{Conns: len(mine), Target: r.address, UDPOffload: cfg.UDPOffload}, w)
	return err
}

// check fills defaults, refuses what can't be run, and resolves the target.
func (c Config) check() (Config, ring.Address, error) {
	var problems []error
	want := func(ok bool, format string, args ...any) {
		if !ok {
			problems = append(problems, fmt.Errorf(format, args...))
		}
	}
	if c.Arrival == "" {
		c.Arrival = "constant"
	}
	if c.Codec == "" {
		c.Codec = "frame"
	}
	c.Connections = max(c.Connections, 1)
	if c.Streams == 0 {
		c.Streams = c.Connections
	}
	c.Connections = min(c.Connections, c.Streams)
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	if c.InFlightMax == 0 {
		c.InFlightMax = 1024
		if c.Arrival == "closed" {
			c.InFlightMax = (c.Streams + c.Connections - 1) / c.Connections
		}
		c.InFlightMax = min(c.InFlightMax, InFlightMaxMax)
	}
	workers := max(len(c.CPUs), 1)
	want(c.Source != nil, "no source of requests")
	want(c.Streams > 0 && c.Streams <= StreamsMax, "%d streams: want 1 to %d", c.Streams, StreamsMax)
	want(workers <= WorkersMax, "%d workers: want at most %d", workers, WorkersMax)
	want(c.Connections <= ring.ConnsMax*workers, "%d connections: want at most %d per worker", c.Connections, ring.ConnsMax)
	want(c.Connections >= workers, "%d workers share %d connections: want at least one each", workers, c.Connections)
	want(c.InFlightMax > 0 && c.InFlightMax <= InFlightMaxMax, "%d requests in flight per connection: want 1 to %d", c.InFlightMax, InFlightMaxMax)
	want(c.InFlightMax*c.Connections <= slotsMax, "%d connections with %d requests in flight: want at most %d together", c.Connections, c.InFlightMax, slotsMax)
	want(c.TraceMax >= 0 && c.TraceMax <= TracedMax, "%d traced answers: want 0 to %d", c.TraceMax, TracedMax)
	want(c.Duration > 0, "duration %v: want above 0", c.Duration)
	want(c.Warmup >= 0, "warm-up %v is negative", c.Warmup)
	want(c.Timeout > 0 && c.Timeout <= TimeoutMax, "timeout %v: want above 0 and at most %v", c.Timeout, TimeoutMax)
	if c.Arrival != "closed" {
		_, err := schedule.New(c.Arrival, c.RatePerS, c.BurstLen, c.Seed, schedule.Part{})
		want(err == nil, "%w", err)
	}
	codecOf, err := codec.New(c.Codec, "", c.Target.Network == "udp")
	want(err == nil, "%w", err)
	want(err != nil || c.Target.Network != "udp" || !codecOf.Ordered(), "codec %s needs a stream: datagrams may be lost or reordered", c.Codec)
	want(!c.UDPOffload || c.Target.Network == "udp", "UDP offload over %s", c.Target.Network)
	address, err := ring.Resolve(c.Target.Network, c.Target.Address, c.Target.Allow)
	want(err == nil, "%w", err)
	return c, address, errors.Join(problems...)
}

// host is what HTTP's Host header says.
func (t Target) host() string {
	if t.Network == "unix" {
		return "localhost"
	}
	return strings.TrimSpace(t.Address)
}

// wallClock is the distance of the wall clock from the monotonic one, which
// changes only when somebody sets the clock (or slews it, slowly).
func wallClock() time.Duration { return time.Duration(time.Now().UnixNano() - uring.Now()) }
