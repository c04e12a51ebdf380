// Package loadgen is the io_uring load generator: open-loop arrivals, one
// pinned worker per ring, latency counted from the intended send time.
//
// In the open loop a request's intended time comes from the arrival process
// alone. A slow answer, a full pipeline or a lost connection makes requests
// wait and never makes them disappear: what waited is counted (Waited) and its
// latency includes the wait; what could not be sent by the end is Unsent.
//
// The closed loop (Config.Arrival "closed") sends a stream's next request when
// its last was answered. It measures a ceiling, and hides queueing: a server
// that stalls for a second delays one request per stream and silently spares
// itself all those that would have arrived meanwhile (coordinated omission).
// Its latencies say nothing about a load that doesn't wait.
//
// For every Result, Intended = Sent + Unsent and
// Sent = Completed + Errors + Timeouts + Wrong + InFlight.
package loadgen

import (
	"net/netip"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Target is where the requests go. Only loopback and unix addresses, and
// addresses in a network namespace of the project's own, are accepted.
type Target struct {
	Network string // tcp, udp, unix
	Address string // host:port, or a socket path
	// Netns is the path of a network namespace, such as /run/netns/x, to open
	// the sockets in; empty is the process's own.
	Netns string
	// Allow is the private subnet of a network namespace that the caller made.
	// A target address that isn't loopback must lie in it.
	Allow netip.Prefix
}

// Op is one request as a Source states it, before a codec puts it on the wire.
// Key and Body belong to the Source until its next call of Next.
type Op struct {
	Kind   uint8  // the source's own; for the frame codec a frame.Kind
	Stream uint32 // the logical writer; requests of one stream keep their order on one connection
	Tenant uint32
	Token  uint64 // the source's own; given back to Check
	Key    []byte
	Body   []byte
	// Unchecked sends a frame without a checksum of its own, over udp only.
	Unchecked bool
}

// Reply is one answer as a codec read it. Body aliases the receive buffer.
type Reply struct {
	Status uint8 // 0 is success
	Body   []byte
}

// Judgement is a Source's view of one answer.
type Judgement uint8

const (
	Right   Judgement = iota // the right answer
	Refused                  // a well-formed answer that says no
	Wrong                    // an answer that can't be: the trial is void
)

// Forker is a Source that gives each worker its own part, so that workers share
// nothing. Worker w of n asks only for the streams that are on its
// connections. A Source that is no Forker is called by all workers at once,
// each for its own streams.
type Forker interface {
	Fork(worker, workers int) Source
}

// Source states the requests and judges the answers of one trial. A Run calls
// it from one goroutine per worker.
type Source interface {
	// Next fills op for the given stream.
	Next(stream uint32, op *Op)
	// Check judges the answer to an earlier op, known by its stream and token.
	// It is also told of requests that never got one (lost connection, timeout,
	// never sent): reply is then nil and the judgement ignored. An answer later
	// than the timeout is dropped.
	Check(stream uint32, token uint64, reply *Reply) Judgement
}

// Config describes one measured run.
type Config struct {
	Target      Target
	Codec       string  // frame, http1, resp
	Arrival     string  // constant, poisson, burst, closed
	RatePerS    float64 // offered; ignored when closed
	BurstLen    int     // arrivals per burst
	Streams     int     // logical writers; closed: each has one request outstanding
	Connections int     // streams are spread over them
	InFlightMax int     // per connection, bounds memory; what waits for it is counted
	Warmup      time.Duration
	Duration    time.Duration
	Timeout     time.Duration // per request
	Seed        uint64
	// UDPOffload lets requests that are due in the same turn on the same udp
	// connection cross the network stack together (UDP_SEGMENT, UDP_GRO), where
	// the kernel can: Features then has udp_segment. Each is still a datagram of
	// its own with its own latency. Leave it off for what must see one packet per
	// send, such as a generic XDP program behind a device that takes whole runs.
	UDPOffload bool
	// Ordinary keeps workers from being real-time tasks: for a CPU on which others
	// must run first, such as the kernel's threads that bring the answers. Real-time
	// tasks that use a CPU up are stopped together, sched(7).
	Ordinary bool
	CPUs     []int // one worker each; empty: one unpinned worker
	// SharedCPUs says that the server has to do with these CPUs too: the workers
	// then take no priority over it.
	SharedCPUs bool
	// BusyShareMax is how much of its time a worker may be busy before the run is
	// invalid, 0 for the default.
	BusyShareMax float64
	Source       Source
	// OnTick, if set, is called about ten times a second from another goroutine.
	OnTick func(Tick)
	// OnMeasure, if set, is called on a thread of its own with true when the
	// measured part begins and with false when it ends, so that others can
	// measure the same part. The thread has real-time priority to be punctual: what
	// takes long belongs elsewhere. A run that ends early leaves calls out.
	OnMeasure func(begins bool)
	// TraceMax is how many answers Result.Traced holds at most, over all
	// workers; 0 keeps none and costs nothing.
	TraceMax int
}

// Tick is one interval of progress.
type Tick struct {
	OffsetNs  int64 // from the start of the measured part, at the interval's end
	Completed uint64
	P50Ns     int64
	P99Ns     int64
}

// Result is what one run measured; only requests intended inside the measured
// part (after the warm-up) count.
type Result struct {
	StartNs   int64 // when the schedule began, on CLOCK_MONOTONIC; the measured part begins a warm-up later
	ElapsedNs int64
	Intended  uint64
	Sent      uint64
	Completed uint64
	Errors    uint64
	Timeouts  uint64
	Wrong     uint64
	Unsent    uint64
	InFlight  uint64
	Waited    uint64
	// Answered counts the right answers that arrived inside the measured part,
	// to whichever request: over ElapsedNs it is the throughput. Completed also
	// holds what arrived in the drain behind it.
	Answered   uint64
	FirstWrong string // says what was wrong with the first wrong answer
	FirstError string // says what the first error was

	Latency *hdrhistogram.Histogram // from the intended send time, ns
	Service *hdrhistogram.Histogram // from the actual send, ns
	Lag     *hdrhistogram.Histogram // intended to actual send, ns

	// Traced holds single requests when Config.TraceMax asks for them;
	// TraceMissed counts those that found no room.
	Traced      []Traced
	TraceMissed uint64

	Timeline  []Tick
	Pace      Pace
	CPUNs     int64   // of all workers, over the measured part
	BusyShare float64 // CPU time without idle spinning over wall time, of the busiest worker
	Saturated bool    // the generator was the bottleneck, not what it measured
	// Overloaded says of an open loop whose generator kept up that the server
	// did not: it answered fewer requests than were intended, by more than chance.
	Overloaded bool
	Features   []string // ring features in use, such as multishot_recv, buf_ring, fixed_file
	Invalid    []string // reasons why this run must not be trusted
}
